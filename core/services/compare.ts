import { COMPARED_PACKAGES_MAX, type ComparedEvaluation, type CompareView } from "../api/compare.ts";
import { naiveTime } from "../api/times.ts";
import { type ClosureStores, findClosureStores } from "../db/closure-stores.ts";
import { listOutputPaths } from "../db/closures.ts";
import {
  type ComparedEvaluationRow,
  findComparedEvaluation,
  listAttributeSides,
  listRuntimePaths,
  sumRuntimeClosures,
} from "../db/compare.ts";
import type { Actor } from "../domain/actor.ts";
import { compareInputs, type KnownInputs } from "../domain/compared-inputs.ts";
import {
  type AttributeSide,
  type Comparison,
  compareAttributes,
  comparePackages,
  packageVersions,
  viewLists,
} from "../domain/comparison.ts";
import { evaluationStatusName, SUCCESSFUL_BUILD } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireEvaluation } from "./evaluations.ts";
import { asWalk } from "./walks.ts";

type ReadDeps = Pick<ServiceDeps, "db">;

const ATTRIBUTES_MAX = 10_000;
/** Of all entry points of an evaluation together. */
const PATHS_MAX = 50_000;
/** Builds on each side whose closures are measured one by one, a few at a time until all have been, or too much. */
const MEASURED_MAX = 100;
const MEASURED_AT_A_TIME = 10;
const MEMBERS_MAX = 100_000;

/** What is otherwise in an evaluation than it was in another one. Who may not see one of the two sees neither. */
export async function compareEvaluations(
  deps: ReadDeps,
  actor: Actor,
  { after, before }: { readonly after: string; readonly before: string },
): Promise<CompareView> {
  await requireEvaluation(deps, actor, after, "read");
  await requireEvaluation(deps, actor, before, "read");
  return await asWalk(actor, () => compare(deps, { after, before }));
}

async function compare(
  deps: ReadDeps,
  { after, before }: { readonly after: string; readonly before: string },
): Promise<CompareView> {
  const old = await readSide(deps, before);
  const now = await readSide(deps, after);
  const comparison = compareAttributes(old.attributes, now.attributes);
  const sizes = {
    before: await measure(deps, old, toMeasure(comparison, "before")),
    after: await measure(deps, now, toMeasure(comparison, "after")),
  };
  const packages = comparePackages(packageVersions(old.paths), packageVersions(now.paths));
  return {
    before: viewEvaluation(old),
    after: viewEvaluation(now),
    ...viewLists(comparison, (side, buildId) => sizes[side].get(buildId) ?? null),
    unchanged_total: comparison.unchanged,
    packages: { total: packages.length, items: packages.slice(0, COMPARED_PACKAGES_MAX) },
    inputs: compareInputs(inputsOf(old), inputsOf(now)),
    truncated: old.cut || now.cut,
  };
}

interface Side {
  readonly evaluation: ComparedEvaluationRow;
  readonly stores: ClosureStores;
  readonly attributes: readonly AttributeSide[];
  /** Outputs of what was built, by build. */
  readonly outputs: ReadonlyMap<string, readonly string[]>;
  /** What it takes to run all of them. */
  readonly paths: readonly string[];
  readonly bytes: number;
  readonly cut: boolean;
}

async function readSide({ db }: ReadDeps, id: string): Promise<Side> {
  const evaluation = await findComparedEvaluation(db, id);
  if (!evaluation) throw new DomainError("not_found", "Evaluation not found");
  const stores = await findClosureStores(db, evaluation.organization_id);
  const found = await listAttributeSides(db, id, ATTRIBUTES_MAX + 1);
  const attributes = found.slice(0, ATTRIBUTES_MAX);
  const built = new Set(attributes.flatMap(({ build }) => (build && isBuilt(build.status) ? [build.build_id] : [])));
  const rows = await listOutputPaths(db, [...built]);
  const roots = [...new Set(rows.map(({ store_path }) => store_path))];
  const paths = await listRuntimePaths(db, stores, { roots, limit: PATHS_MAX });
  return {
    evaluation,
    stores,
    attributes,
    outputs: new Map(
      Array.from(
        Map.groupBy(rows, (row) => row.build_id),
        ([buildId, own]) => [buildId, own.map(({ store_path }) => store_path)],
      ),
    ),
    paths: paths.map(({ path }) => path),
    bytes: paths.reduce((sum, { nar_size }) => sum + nar_size, 0),
    cut: found.length > ATTRIBUTES_MAX || paths.length === PATHS_MAX,
  };
}

function isBuilt(status: number): boolean {
  return (SUCCESSFUL_BUILD as readonly number[]).includes(status);
}

/** The builds of what has changed, as far as their sizes are asked for. */
function toMeasure({ lists }: Comparison, side: "before" | "after"): string[] {
  const pairs = [...lists.changed, ...lists.added, ...lists.removed, ...lists.newly_failing, ...lists.fixed];
  const builds = pairs.flatMap((pair) => pair[side]?.build ?? []);
  return [...new Set(builds.filter(({ status }) => isBuilt(status)).map(({ build_id }) => build_id))];
}

async function measure(
  { db }: ReadDeps,
  { stores, outputs }: Side,
  buildIds: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  const wanted = buildIds.slice(0, MEASURED_MAX);
  for (let start = 0; start < wanted.length; start += MEASURED_AT_A_TIME) {
    const keys = wanted.slice(start, start + MEASURED_AT_A_TIME);
    const roots = keys.flatMap((key) => (outputs.get(key) ?? []).map((path) => ({ key, path })));
    const some = await sumRuntimeClosures(db, stores, { roots, membersMax: MEMBERS_MAX });
    if (!some) break;
    for (const [key, bytes] of some) sizes.set(key, bytes);
  }
  return sizes;
}

function viewEvaluation({ evaluation, attributes, bytes }: Side): ComparedEvaluation {
  return {
    evaluation: evaluation.id,
    project: evaluation.project_id,
    commit: evaluation.commit_hash,
    status: evaluationStatusName(evaluation.status),
    created_at: naiveTime(evaluation.created_at),
    attributes: attributes.length,
    closure_size: bytes,
  };
}

function inputsOf({ evaluation: { locked_inputs: locked, input_overrides: overrides } }: Side): KnownInputs {
  return { locked, overrides };
}
