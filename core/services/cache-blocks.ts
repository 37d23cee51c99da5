import type { Transaction } from "kysely";
import type { BlockView } from "../api/caches-retention.ts";
import { naiveTime } from "../api/times.ts";
import { deleteBlock, insertBlock, listBlockedPaths, listBlocks, lockCacheToBlock } from "../db/blocked-paths.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { chunksOf } from "../lib/chunks.ts";
import { type StorePath, storePathHash } from "../nix/store-path.ts";
import { requireCache } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";
import { requirePathHash } from "./path-hash.ts";

const CHUNK = 1_000;
/** They come without pages. */
const BLOCKS_MAX = 10_000;

/** Throws when one of these caches, which the caller holds, does not take one of the paths. */
export async function refuseBlocked(
  trx: Transaction<Database>,
  cacheIds: readonly string[],
  storePaths: readonly StorePath[],
): Promise<void> {
  for (const chunk of chunksOf(storePaths, CHUNK)) {
    const [blocked] = await listBlockedPaths(trx, cacheIds, chunk.map(storePathHash));
    if (!blocked) continue;
    const path = chunk.find((candidate) => storePathHash(candidate) === blocked.hash);
    throw new DomainError(
      "unprocessable_entity",
      `${path} is blocked in a cache that it would go to (${blocked.reason}): who manages the cache can lift that`,
    );
  }
}

export async function listCacheBlocks(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  cacheName: string,
): Promise<BlockView[]> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheSettings");
  const rows = await listBlocks(deps.db, cache.id, BLOCKS_MAX);
  return rows.map(({ created_at, ...block }) => ({ ...block, created_at: naiveTime(created_at) }));
}

/**
 * The cache takes the path no more, from nobody, and answers for no upstream that has it. What it holds of it stays
 * until it is removed.
 */
export async function blockPath(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">,
  actor: Actor,
  { cacheName, path }: { readonly cacheName: string; readonly path: string },
  reason: string,
): Promise<void> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheSettings");
  const hash = requirePathHash(path, "path");
  const { id } = requireUser(actor);
  await inTransaction(
    deps.db,
    async (trx) => {
      await lockCacheToBlock(trx, cache.id);
      await insertBlock(trx, { cache_id: cache.id, hash, reason, blocked_by: id });
    },
    deps,
  );
  deps.notifier.notify("path", `${cache.id}/${hash}`);
}

export async function unblockPath(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  { cacheName, path }: { readonly cacheName: string; readonly path: string },
): Promise<void> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheSettings");
  if (await deleteBlock(deps.db, { cacheId: cache.id, hash: requirePathHash(path, "path") })) return;
  throw new DomainError("not_found", "The path is not blocked");
}
