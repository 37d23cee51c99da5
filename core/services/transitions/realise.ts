import type { Transaction } from "kysely";
import type { EndingBuild } from "../../db/build-ends.ts";
import { listReadableStores, listWritableCaches } from "../../db/cache-paths.ts";
import { listStoredReferences } from "../../db/missing-inputs.ts";
import {
  insertRealisations,
  listNeededRealisations,
  listRealisations,
  type NewRealisation,
} from "../../db/realisations.ts";
import { listResolved, type OutputPlace, type ResolvedBuild, setOutputPlaces } from "../../db/resolutions.ts";
import type { Database } from "../../db/schema.ts";
import { formatRealisationId, parseRealisationId, type RealisationKey } from "../../nix/realisation.ts";
import {
  outputName,
  parseStorePathBaseName,
  type StorePath,
  storePathBaseName,
  storePathName,
} from "../../nix/store-path.ts";
import type { BuildResult } from "../../protocol/worker-messages.ts";

export interface MadeOutputs {
  /** By build: the base names of its outputs. Builds whose derivations state their outputs are not among them. */
  readonly paths: ReadonlyMap<string, readonly string[]>;
  /** By build: what is wrong with what its worker says. */
  readonly faults: ReadonlyMap<string, string>;
}

/**
 * Records where outputs are that only the build could tell, as the workers say. Whether they are there is for the
 * caller to see. The builds and what rests on them are locked by this transaction.
 */
export async function placeMadeOutputs(
  trx: Transaction<Database>,
  ended: readonly { readonly build: EndingBuild; readonly result: BuildResult }[],
): Promise<MadeOutputs> {
  const paths = new Map<string, readonly string[]>();
  const faults = new Map<string, string>();
  const made = ended.filter(({ build, result }) => build.resolution !== 0 && result.failure === null);
  if (made.length === 0) return { paths, faults };
  const results = new Map(made.map(({ build, result }) => [build.id, result]));
  const places: OutputPlace[] = [];
  for (const build of await listResolved(trx, [...results.keys()])) {
    if (build.resolved_hash === null) continue;
    const said = results.get(build.build_id)?.outputs ?? [];
    const own = build.outputs.flatMap(({ name }): OutputPlace[] => {
      const path = said.find((output) => output.name === name)?.path;
      if (path === undefined || storePathName(path) !== outputName(derivationName(build), name)) {
        faults.set(build.build_id, `the worker reported success, but not where the output ${name} is`);
        return [];
      }
      return [{ build_id: build.build_id, name, store_path: storePathBaseName(path) }];
    });
    if (faults.has(build.build_id)) continue;
    places.push(...own);
    const names = own.map(({ store_path }) => store_path);
    paths.set(build.build_id, names);
  }
  await setOutputPlaces(trx, places);
  return { paths, faults };
}

function derivationName({ drv_path }: ResolvedBuild): string {
  return storePathName(parseStorePathBaseName(drv_path) as StorePath).replace(/\.drv$/, "");
}

/**
 * The caches that the organization writes to, and its internal store, say from now on where these outputs are: under
 * the derivation that was evaluated and the one that it was resolved to. Of caches that do not hold a path nothing is
 * changed.
 */
export async function recordRealisations(
  trx: Transaction<Database>,
  organizationId: string,
  buildIds: readonly string[],
): Promise<void> {
  const builds = await listResolved(trx, buildIds);
  if (builds.length === 0) return;
  const stores = await listReadableStores(trx, organizationId);
  const internal = stores.filter(({ kind }) => kind === 1).map(({ id }) => id);
  const cacheIds = [...internal, ...(await listWritableCaches(trx, organizationId))];
  const dependentsOf = await findDependents(trx, cacheIds, builds);
  const rows: NewRealisation[] = [];
  for (const build of builds) {
    for (const { name: output, store_path } of build.outputs) {
      if (store_path === null) continue;
      const common = { output, store_path, signatures: [] };
      const { realisation_hash: hash, resolved_hash: resolved } = build;
      if (resolved !== null) rows.push({ ...common, hash: resolved, dependents: [] });
      if (hash === null || hash === resolved) continue;
      rows.push({ ...common, hash, dependents: dependentsOf(build.build_id, store_path) });
    }
  }
  await insertRealisations(trx, cacheIds, rows);
}

/** As Nix counts them: realisations of inputs, and what these depend on, whose paths the output refers to. */
async function findDependents(
  trx: Transaction<Database>,
  cacheIds: readonly string[],
  builds: readonly ResolvedBuild[],
): Promise<(buildId: string, storePath: string) => string[]> {
  const ids = builds.map(({ build_id }) => build_id);
  const paths = builds.flatMap(({ outputs }) => outputs.flatMap(({ store_path }) => store_path ?? []));
  const stored = await listStoredReferences(trx, cacheIds, paths);
  const references = new Map(stored.map((row) => [row.store_path, new Set(row.references)]));
  const needed = Map.groupBy(await listNeededRealisations(trx, ids), ({ build_id }) => build_id);
  const known = await closureOf(trx, cacheIds, [...needed.values()].flat());
  return (buildId, storePath) => {
    const refersTo = references.get(storePath);
    if (!refersTo) return [];
    const found = new Set<string>();
    const open = (needed.get(buildId) ?? []).map(formatRealisationId);
    const places = new Map((needed.get(buildId) ?? []).map((row) => [formatRealisationId(row), row.store_path]));
    const seen = new Set(open);
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      const place = places.get(id) ?? known.get(id)?.store_path;
      if (place !== undefined && place !== storePath && refersTo.has(place)) found.add(id);
      for (const next of known.get(id)?.dependents ?? []) {
        if (!seen.has(next)) open.push(next);
        seen.add(next);
      }
    }
    return [...found].sort();
  };
}

const ROUNDS_MAX = 100;

async function closureOf(
  trx: Transaction<Database>,
  cacheIds: readonly string[],
  start: readonly RealisationKey[],
): Promise<ReadonlyMap<string, { readonly store_path: string; readonly dependents: readonly string[] }>> {
  const known = new Map<string, { readonly store_path: string; readonly dependents: readonly string[] }>();
  const asked = new Set<string>();
  let keys: readonly RealisationKey[] = start;
  for (let round = 0; keys.length > 0 && round < ROUNDS_MAX; round++) {
    for (const key of keys) asked.add(formatRealisationId(key));
    const next = new Set<string>();
    for (const row of await listRealisations(trx, { cacheIds, keys })) {
      known.set(formatRealisationId(row), row);
      for (const id of row.dependents) if (!asked.has(id)) next.add(id);
    }
    keys = [...next].flatMap((id) => parseRealisationId(id) ?? []);
  }
  return known;
}
