import { listPathsWithNar, listReadableStores } from "../db/cache-paths.ts";
import { listInputPaths, listStoredReferences, type StoredReference, withdrawPaths } from "../db/missing-inputs.ts";
import { insertSourceNeed } from "../db/recovery.ts";
import { inTransaction } from "../db/transaction.ts";
import { chunksOf } from "../lib/chunks.ts";
import { parseStorePathBaseName, type StorePath, storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { narOf } from "./nar.ts";
import { isNarStored, type NarOpenDeps } from "./nar-open.ts";
import { pathsWithinReach } from "./paths-availability.ts";
import type { TransitionDeps } from "./transitions/deps.ts";
import { loseOutputs, waitForLost } from "./transitions/loss.ts";
import type { Upstreams } from "./upstreams.ts";

export interface MissingInputsDeps extends TransitionDeps, NarOpenDeps {
  readonly upstreams: Upstreams;
}

/** What one result may have looked at; the audit finds the rest. */
const PATHS_MAX = 200;
const CHUNK = 20;
/** As a worker's own bound on what it fetches for one build. */
const CLOSURE_PATHS_MAX = 100_000;

/**
 * The worker that builds this could not get these inputs, or what they refer to. Each is looked for where it should be:
 * an object that is gone is taken out of service, an upstream that has lost a path is remembered so. What then cannot
 * be had is lost, and is built again or recovered at once; the build waits for it. A worker's word alone takes nothing
 * away.
 */
export async function healMissingInputs(
  deps: MissingInputsDeps,
  { organizationId, buildId }: { readonly organizationId: string; readonly buildId: string },
  storePaths: readonly StorePath[],
): Promise<void> {
  const paths = storePaths.slice(0, PATHS_MAX);
  const cacheIds = (await listReadableStores(deps.db, organizationId)).map((store) => store.id);
  for (const chunk of chunksOf(paths, CHUNK)) {
    const rows = await listPathsWithNar(deps.db, { cacheIds, hashes: chunk.map(storePathHash) });
    await Promise.all(rows.map((row) => isNarStored(deps, narOf(row))));
    await deps.upstreams.confirm(cacheIds, chunk);
  }
  const reached = await pathsWithinReach(deps.db, organizationId, paths);
  const gone = paths.filter((path) => !reached.has(path));
  if (gone.length === 0) return;
  await loseOutputs(deps, gone, organizationId);
  // Its sources come from evaluations alone.
  await insertSourceNeed(deps.db, buildId);
  const awaited = await waitForLost(deps, buildId, gone);
  const unknown = gone.filter((path) => !awaited.has(path));
  if (unknown.length > 0) await withdrawReferrers(deps, { cacheIds, organizationId, buildId }, unknown);
}

/**
 * Nobody knows what makes these paths, which an input refers to: only the input was ever recorded. Without them it is
 * not whole, so its stores have it no longer, and it is lost itself.
 */
async function withdrawReferrers(
  deps: MissingInputsDeps,
  where: { readonly cacheIds: readonly string[]; readonly organizationId: string; readonly buildId: string },
  gone: readonly StorePath[],
): Promise<void> {
  const inputs = await listInputPaths(deps.db, where.buildId);
  const stored = await closureOf(deps, where.cacheIds, inputs);
  const lacking = new Set(gone.map(storePathBaseName));
  const withdrawn: StoredReference[] = [];
  for (let found = true; found; ) {
    const broken = stored.filter(
      (row) => !withdrawn.includes(row) && row.references.some((path) => path !== row.store_path && lacking.has(path)),
    );
    found = broken.length > 0;
    withdrawn.push(...broken);
    for (const { store_path } of broken) lacking.add(store_path);
  }
  if (withdrawn.length === 0) return;
  await inTransaction(deps.db, (trx) => withdrawPaths(trx, withdrawn), deps);
  for (const { cache_id, hash } of withdrawn) deps.notifier.notify("path", `${cache_id}/${hash}`);
  deps.log.error("paths were taken out of their caches: what they refer to is gone", { paths: withdrawn.length });
  const paths = withdrawn.flatMap(({ store_path }) => parseStorePathBaseName(store_path) ?? []);
  await loseOutputs(deps, paths, where.organizationId);
}

async function closureOf(
  { db }: MissingInputsDeps,
  cacheIds: readonly string[],
  baseNames: readonly string[],
): Promise<StoredReference[]> {
  const seen = new Set(baseNames);
  const stored: StoredReference[] = [];
  for (let frontier = [...baseNames]; frontier.length > 0 && seen.size <= CLOSURE_PATHS_MAX; ) {
    const next: string[] = [];
    for (const chunk of chunksOf(frontier, 1_000)) {
      for (const row of await listStoredReferences(db, cacheIds, chunk)) {
        stored.push(row);
        for (const path of row.references) if (!seen.has(path)) next.push(path);
        for (const path of row.references) seen.add(path);
      }
    }
    frontier = next;
  }
  return stored;
}
