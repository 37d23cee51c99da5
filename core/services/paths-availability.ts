import type { Kysely, Transaction } from "kysely";
import { listPathsWithNar, listPresentPaths, listReadableStores } from "../db/cache-paths.ts";
import { holdPresentPaths, listLendingCaches } from "../db/held-paths.ts";
import type { Database } from "../db/schema.ts";
import { listUpstreamPaths, listUpstreamProofs } from "../db/upstream-paths.ts";
import { listInternalPaths } from "../db/upstreams.ts";
import { chunksOf } from "../lib/chunks.ts";
import { type StorePath, storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { narInfoOf, storedPath } from "./cache-path.ts";
import { narOf } from "./nar.ts";
import { type NarOpenDeps, openNar } from "./nar-open.ts";
import type { OpenedPath } from "./opened-path.ts";
import { openUpstreamPath, type UpstreamOpenDeps } from "./upstream-open.ts";
import type { Upstreams } from "./upstreams.ts";

const CHUNK = 1_000;

/**
 * Which of the paths are present in a store that the organization may read, and in which (the preferred one, where
 * several hold it). A path that is not in the answer is absent; what could not be found out is thrown.
 */
export async function availablePaths(
  db: Kysely<Database>,
  organizationId: string,
  storePaths: readonly StorePath[],
): Promise<Map<StorePath, string>> {
  const cacheIds = (await listReadableStores(db, organizationId)).map((store) => store.id);
  return await pathsInStores(db, cacheIds, storePaths);
}

/** As `availablePaths`; none of them goes before the transaction ends, and a sweep sees then what it wrote down. */
export async function heldPaths(
  trx: Transaction<Database>,
  organizationId: string,
  storePaths: readonly StorePath[],
): Promise<Map<StorePath, string>> {
  const cacheIds = (await listReadableStores(trx, organizationId)).map((store) => store.id);
  const lending = await listLendingCaches(trx, cacheIds);
  for (const chunk of lending.length > 0 ? chunksOf(storePaths, CHUNK) : []) {
    await holdPresentPaths(trx, { cacheIds: lending, hashes: chunk.map(storePathHash) });
  }
  return await pathsInStores(trx, cacheIds, storePaths);
}

/** As `availablePaths`, and those that an upstream of such a cache has. Its silence counts as "not available". */
export async function availablePathsWithUpstreams(
  { db, upstreams }: { readonly db: Kysely<Database>; readonly upstreams: Upstreams },
  organizationId: string,
  storePaths: readonly StorePath[],
): Promise<Map<StorePath, string>> {
  const cacheIds = (await listReadableStores(db, organizationId)).map((store) => store.id);
  const available = await pathsInStores(db, cacheIds, storePaths);
  const others = storePaths.filter((path) => !available.has(path));
  const { found } = await upstreams.find(cacheIds, others);
  for (const [path, { upstream }] of found) available.set(path, upstream.cacheId);
  return available;
}

/** Which of the paths an upstream of a readable cache was recorded to have, and of which cache it is an upstream. */
export async function provenUpstreamPaths(
  db: Kysely<Database>,
  organizationId: string,
  storePaths: readonly StorePath[],
): Promise<Map<StorePath, string>> {
  const cacheIds = (await listReadableStores(db, organizationId)).map((store) => store.id);
  return await upstreamPathsOf(db, cacheIds, storePaths);
}

/** As `provenUpstreamPaths`, of these caches. `locked`: what is proven cannot be lost before the transaction ends. */
export async function upstreamPathsOf(
  db: Kysely<Database>,
  cacheIds: readonly string[],
  storePaths: readonly StorePath[],
  { locked = false }: { readonly locked?: boolean } = {},
): Promise<Map<StorePath, string>> {
  const asked = new Set(storePaths);
  const proven = new Map<StorePath, string>();
  for (const chunk of cacheIds.length > 0 ? chunksOf([...asked], CHUNK) : []) {
    const hashes = chunk.map(storePathHash);
    const remote = await listUpstreamProofs(db, { cacheIds, hashes, locked });
    for (const row of [...remote, ...(await listInternalPaths(db, { cacheIds, hashes }))]) {
      const path = storedPath(row.store_path ?? "");
      if (asked.has(path)) proven.set(path, row.cache_id);
    }
  }
  return proven;
}

/**
 * Which of the paths the organization can get as far as is known: from a store that it reads, or from an upstream that
 * was last heard to have it, however long ago that was.
 */
export async function pathsWithinReach(
  db: Kysely<Database>,
  organizationId: string,
  storePaths: readonly StorePath[],
): Promise<ReadonlySet<StorePath>> {
  const cacheIds = (await listReadableStores(db, organizationId)).map((store) => store.id);
  const reached = new Set((await pathsInStores(db, cacheIds, storePaths)).keys());
  const others = storePaths.filter((path) => !reached.has(path));
  for (const chunk of cacheIds.length > 0 ? chunksOf(others, CHUNK) : []) {
    const hashes = chunk.map(storePathHash);
    const remote = await listUpstreamPaths(db, { cacheIds, hashes });
    const rows = [...remote, ...(await listInternalPaths(db, { cacheIds, hashes }))];
    const known = new Set(rows.map((row) => storedPath(row.store_path ?? "")));
    for (const path of chunk) if (known.has(path)) reached.add(path);
  }
  return reached;
}

async function pathsInStores(
  db: Kysely<Database>,
  cacheIds: readonly string[],
  storePaths: readonly StorePath[],
): Promise<Map<StorePath, string>> {
  const asked = new Set(storePaths);
  const available = new Map<StorePath, string>();
  if (cacheIds.length === 0) return available;
  for (const chunk of chunksOf([...asked], CHUNK)) {
    const rows = await listPresentPaths(db, { cacheIds, hashes: chunk.map(storePathHash) });
    rows.sort((a, b) => cacheIds.indexOf(a.cache_id) - cacheIds.indexOf(b.cache_id));
    for (const row of rows) {
      const path = storedPath(row.store_path);
      if (asked.has(path) && !available.has(path)) available.set(path, row.cache_id);
    }
  }
  return available;
}

/**
 * The NAR file of a path for one of the organization's workers. Null when no store it may read holds it undamaged, and
 * none of their upstreams has it. Throws when it is an upstream's, which does not give it out now.
 */
export async function openPath(
  deps: NarOpenDeps & UpstreamOpenDeps,
  organizationId: string,
  storePath: StorePath,
): Promise<OpenedPath | null> {
  const cacheIds = (await listReadableStores(deps.db, organizationId)).map((store) => store.id);
  if (cacheIds.length === 0) return null;
  const rows = await listPathsWithNar(deps.db, { cacheIds, hashes: [storePathHash(storePath)] });
  rows.sort((a, b) => cacheIds.indexOf(a.cache_id) - cacheIds.indexOf(b.cache_id));
  for (const row of rows) {
    if (row.store_path !== storePathBaseName(storePath)) continue;
    const body = await openNar(deps, narOf(row));
    if (body) return { info: narInfoOf(row), fileSize: row.file_size, compression: row.compression, body };
  }
  return await openUpstreamPath(deps, cacheIds, storePath);
}
