import type { Kysely } from "kysely";
import { listPathsWithNar, listPresentPaths, listReadableStores } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { type StorePath, storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { narInfoOf, storedPath } from "./cache-path.ts";
import { narOf } from "./nar.ts";
import { type NarOpenDeps, openNar } from "./nar-open.ts";

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

export interface OpenedPath {
  readonly info: NarInfo;
  readonly fileSize: number;
  readonly compression: string;
  /** Throws `NarDamagedError` in the place of its last chunk when the stored bytes are not what they were. */
  readonly body: ByteStream;
}

/** The NAR file of a path for one of the organization's workers. Null when no store it may read holds it undamaged. */
export async function openPath(
  deps: NarOpenDeps,
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
  return null;
}
