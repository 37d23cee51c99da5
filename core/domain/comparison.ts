import {
  COMPARED_MAX,
  type ComparedAttribute,
  type ComparedList,
  type ComparedSide,
  type CompareView,
} from "../api/compare.ts";
import { formatAttributePath } from "../nix/attribute-path.ts";
import { packageVersion } from "../nix/package-version.ts";
import { BuildStatus, buildStatusName, FAILED_BUILD } from "./states.ts";

/** An attribute as one evaluation saw it. What did not evaluate has no build. */
export interface AttributeSide {
  readonly attribute: readonly string[];
  readonly build: {
    readonly link_id: string;
    readonly build_id: string;
    readonly drv_path: string;
    readonly name: string;
    readonly status: number;
  } | null;
}

export type ComparedKind = "added" | "removed" | "newly_failing" | "fixed" | "still_failing" | "changed";

/** One attribute in both evaluations. */
export interface ComparedPair {
  readonly attribute: string;
  readonly before: AttributeSide | null;
  readonly after: AttributeSide | null;
}

export interface Comparison {
  readonly lists: Readonly<Record<ComparedKind, readonly ComparedPair[]>>;
  readonly unchanged: number;
}

/** What became of each attribute, by attribute path. */
export function compareAttributes(before: readonly AttributeSide[], after: readonly AttributeSide[]): Comparison {
  const lists: Record<ComparedKind, ComparedPair[]> = {
    added: [],
    removed: [],
    newly_failing: [],
    fixed: [],
    still_failing: [],
    changed: [],
  };
  const old = byAttribute(before);
  const now = byAttribute(after);
  let unchanged = 0;
  for (const attribute of [...new Set([...old.keys(), ...now.keys()])].sort()) {
    const pair = { attribute, before: old.get(attribute) ?? null, after: now.get(attribute) ?? null };
    const kind = kindOf(pair);
    if (kind === null) unchanged++;
    else lists[kind].push(pair);
  }
  return { lists, unchanged };
}

/** The part of the lists that is shown; `sizeOf` knows closures by build. */
export function viewLists(
  { lists }: Comparison,
  sizeOf: (side: "before" | "after", buildId: string) => number | null,
): Pick<CompareView, ComparedKind> {
  const view = (pairs: readonly ComparedPair[]): ComparedList<ComparedAttribute> => ({
    total: pairs.length,
    items: pairs.slice(0, COMPARED_MAX).map(({ attribute, before, after }) => ({
      attribute,
      before: before && viewSide(before, (id) => sizeOf("before", id)),
      after: after && viewSide(after, (id) => sizeOf("after", id)),
    })),
  });
  return {
    added: view(lists.added),
    removed: view(lists.removed),
    newly_failing: view(lists.newly_failing),
    fixed: view(lists.fixed),
    still_failing: view(lists.still_failing),
    changed: view(lists.changed),
  };
}

/** Names of packages, each with its versions, as far as these store paths are of packages with a version. */
export function packageVersions(paths: readonly string[]): Map<string, Set<string>> {
  const packages = new Map<string, Set<string>>();
  for (const path of paths) {
    const { name, version } = packageVersion(path.slice(33));
    if (version === null) continue;
    const versions = packages.get(name) ?? new Set();
    packages.set(name, versions.add(withoutOutput(version)));
  }
  return packages;
}

/** Those whose versions are not the same, by name. */
export function comparePackages(
  before: ReadonlyMap<string, ReadonlySet<string>>,
  after: ReadonlyMap<string, ReadonlySet<string>>,
): CompareView["packages"]["items"] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names.flatMap((name) => {
    const old = [...(before.get(name) ?? [])].sort();
    const now = [...(after.get(name) ?? [])].sort();
    return old.join(" ") === now.join(" ") ? [] : [{ name, before: old, after: now }];
  });
}

function byAttribute(sides: readonly AttributeSide[]): ReadonlyMap<string, AttributeSide> {
  const map = new Map<string, AttributeSide>();
  for (const side of sides) {
    const key = formatAttributePath(side.attribute);
    // What was built counts before an error about the same attribute, which another try of it may have had.
    if (!map.get(key)?.build) map.set(key, side);
  }
  return map;
}

function kindOf({ before, after }: ComparedPair): ComparedKind | null {
  if (!before) return "added";
  if (!after) return "removed";
  const [wasRed, isRed] = [failed(before), failed(after)];
  if (wasRed && isRed) return "still_failing";
  if (isRed) return "newly_failing";
  if (wasRed) return "fixed";
  return before.build?.drv_path === after.build?.drv_path ? null : "changed";
}

/** An open build has not failed; one that was given up says nothing for itself, but is not there either. */
function failed({ build }: AttributeSide): boolean {
  if (!build) return true;
  return (FAILED_BUILD as readonly number[]).includes(build.status) || build.status === BuildStatus.Aborted;
}

function viewSide({ build }: AttributeSide, sizeOf: (buildId: string) => number | null): ComparedSide {
  if (!build) {
    return { build: null, status: "EvaluationError", derivation: null, name: null, version: null, closure_size: null };
  }
  return {
    build: build.link_id,
    status: buildStatusName(build.status),
    derivation: build.drv_path,
    ...packageVersion(build.name),
    closure_size: sizeOf(build.build_id),
  };
}

/** `2.12.1-dev`: the name of another output than the first stands behind the version. */
function withoutOutput(version: string): string {
  return version.replace(/-(?:bin|dev|lib|man|doc|info|devdoc|debug|static|data|modules|out)$/, "");
}
