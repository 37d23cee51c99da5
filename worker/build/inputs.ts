import { chunksOf } from "#core/lib/chunks.ts";
import { DaemonError } from "#core/nix/daemon/errors.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import { QUERY_PATHS_MAX } from "#core/protocol/limits.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import { type AttemptLink, PathUnavailableError } from "../link.ts";
import { CorruptNarError } from "../store/checked-nar.ts";
import { type ImportDeps, importPath, ReferencesChangedError } from "../store/import-path.ts";
import { inReferenceOrder, ReferenceCycleError } from "../store/reference-order.ts";
import type { SharedFetches } from "../store/shared-fetches.ts";
import { BuildFailure } from "./failure.ts";

export interface InputsDeps extends ImportDeps {
  readonly fetches: SharedFetches;
}

const CONCURRENT_FETCHES = 8;
/** A round is repeated when the server's view changed under it, or garbage collection was quicker. */
const ROUNDS_MAX = 4;
/** The closure of a large desktop system has some 20 000 paths. */
const CLOSURE_PATHS_MAX = 500_000;
const PATHS_NAMED_MAX = 5;

/**
 * Makes all inputs, with everything they refer to, valid in the store; they stay so while the connection is open. When
 * all of `outputs` (which must not be empty) are there already nothing is fetched, and the answer is true. Where there
 * are no inputs nothing is asked, and it is false.
 *
 * Throws `BuildFailure` (`inputs_unavailable`, with the paths that nobody has undamaged) and what the daemon throws.
 */
export async function ensureInputs(
  connection: DaemonConnection,
  { inputs, outputs }: { readonly inputs: readonly StorePath[]; readonly outputs: readonly StorePath[] },
  link: AttemptLink,
  deps: InputsDeps,
): Promise<boolean> {
  if (inputs.length === 0) return false;
  const valid = await holdAndQuery(connection, inputs, outputs);
  if (outputs.length > 0 && outputs.every((path) => valid.has(path))) return true;
  let missing = inputs.filter((path) => !valid.has(path));

  const corrections = new Map<StorePath, PathInfoField>();
  for (let round = 1; missing.length > 0; round++) {
    if (round > ROUNDS_MAX) {
      throw new BuildFailure("transient", `inputs vanished while they were fetched: ${nameSome(missing)}`);
    }
    const plan = await planClosure(connection, missing, link, corrections);
    if (await fetchAll(plan, link, deps, corrections)) break;
    const nowValid = await holdAndQuery(connection, inputs);
    missing = inputs.filter((path) => !nowValid.has(path));
  }
  return false;
}

/** A path is held before it is looked at: what is seen to be there stays there. */
async function holdAndQuery(
  connection: DaemonConnection,
  held: readonly StorePath[],
  others: readonly StorePath[] = [],
): Promise<Set<StorePath>> {
  await connection.addTempRoots(held);
  const asked = [...held, ...others];
  return asked.length === 0 ? new Set() : await connection.queryValidPaths(asked);
}

/** All that must be fetched for the missing paths: they themselves, and what they refer to and is not here either. */
async function planClosure(
  connection: DaemonConnection,
  missing: readonly StorePath[],
  link: AttemptLink,
  corrections: ReadonlyMap<StorePath, PathInfoField>,
): Promise<Map<StorePath, PathInfoField>> {
  const plan = new Map<StorePath, PathInfoField>();
  const absent: StorePath[] = [];
  const seen = new Set(missing);
  for (let frontier = [...missing]; frontier.length > 0; ) {
    const infos = await queryInfos(frontier, link);
    const references: StorePath[] = [];
    for (const path of frontier) {
      const info = corrections.get(path) ?? infos.get(path);
      if (!info) {
        absent.push(path);
        continue;
      }
      plan.set(path, info);
      for (const reference of info.references) {
        if (seen.has(reference)) continue;
        seen.add(reference);
        references.push(reference);
      }
    }
    if (seen.size > CLOSURE_PATHS_MAX) {
      throw new BuildFailure("permanent", `the inputs have a closure of more than ${CLOSURE_PATHS_MAX} paths`);
    }
    const valid = await holdAndQuery(connection, references);
    frontier = references.filter((path) => !valid.has(path));
  }
  if (absent.length > 0)
    throw unavailable(absent, "in no cache that the organization reads, nor in an upstream that answers");
  return plan;
}

async function queryInfos(paths: readonly StorePath[], link: AttemptLink): Promise<Map<StorePath, PathInfoField>> {
  const infos = new Map<StorePath, PathInfoField>();
  for (const chunk of chunksOf(paths, QUERY_PATHS_MAX)) {
    for (const info of await link.queryCache(chunk)) infos.set(info.path, info);
  }
  return infos;
}

/** False when something was not as planned: then it is planned again. */
async function fetchAll(
  plan: ReadonlyMap<StorePath, PathInfoField>,
  link: AttemptLink,
  deps: InputsDeps,
  corrections: Map<StorePath, PathInfoField>,
): Promise<boolean> {
  const references = new Map(Array.from(plan, ([path, info]) => [path, info.references]));
  try {
    await inReferenceOrder(references, CONCURRENT_FETCHES, (path) =>
      deps.fetches.run(path, link.signal, () => importPath(plan.get(path) as PathInfoField, link, deps)),
    );
    return true;
  } catch (error) {
    if (error instanceof ReferencesChangedError) {
      corrections.set(error.info.path, error.info);
      return false;
    }
    if (error instanceof DaemonError && /is not valid/.test(error.message)) return false;
    throw asFailure(error);
  }
}

function asFailure(error: unknown): unknown {
  if (error instanceof PathUnavailableError) {
    return new BuildFailure("inputs_unavailable", `an input cannot be had: ${error.message}`, {
      missing: [error.path],
      cause: error,
    });
  }
  if (error instanceof CorruptNarError) {
    const message = `an input is damaged: ${error.path}: ${error.message}`;
    return new BuildFailure("inputs_unavailable", message, { missing: [error.path], cause: error });
  }
  if (error instanceof ReferenceCycleError) return new BuildFailure("transient", `the inputs: ${error.message}`);
  return error;
}

function unavailable(paths: StorePath[], reason: string): BuildFailure {
  const count = paths.length === 1 ? "1 input" : `${paths.length} inputs`;
  const message = `${count} ${reason}: ${nameSome(paths)}`;
  return new BuildFailure("inputs_unavailable", message, { missing: paths });
}

function nameSome(paths: readonly StorePath[]): string {
  const more = paths.length - PATHS_NAMED_MAX;
  return paths.slice(0, PATHS_NAMED_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
