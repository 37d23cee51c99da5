import type { Kysely } from "kysely";
import type { CacheUsage } from "../db/cache-usage.ts";
import { doomPaths, forgetMark, type Mark, noteIdlePaths, spreadUses } from "../db/retention-marks.ts";
import { type DeletedPaths, deleteQueuedPaths, queueDoomedTops } from "../db/retention-paths.ts";
import { QUEUE_BEGIN, type QueuePlace, type QueueRequest } from "../db/retention-queue.ts";
import { readRootScope } from "../db/retention-roots.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { bytesToFree, idleMsMin } from "../domain/retention.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { RetentionDeps } from "./retention-deps.ts";
import { flushUsesEverywhere } from "./uses-flush.ts";

const PATHS_MAX = 500;

export interface CacheLimits {
  /** How long a path without a root stays after its last use; 0: that is no reason to go. */
  readonly unusedMs: number;
  /** What has to go however lately it was used. */
  readonly freeBytes: number;
}

/**
 * Works out in the database what would go from a cache: afterwards the rows of the mark say which paths are doomed.
 * False when nothing can be. The caller forgets the mark (`forgetMark`).
 */
export async function markCache(
  db: Kysely<Database>,
  mark: Mark,
  { unusedMs, freeBytes }: CacheLimits,
): Promise<boolean> {
  const idleMs = idleMsMin({ unusedMs }, freeBytes);
  if (idleMs === null) return false;
  if ((await noteIdlePaths(db, mark, idleMs)) === 0) return false;
  await spreadUses(db, mark);
  await doomPaths(db, mark, { unusedMs, freeBytes });
  return true;
}

/**
 * Deletes from one cache what nothing keeps: paths without a root, whose referrers go too, that were unused for too
 * long, or used least lately in a cache that is nearly full. Each transaction takes some, referrers first, and looks
 * again whether they may go; one that dies on the way leaves a cache that is whole.
 */
export async function sweepCache(
  deps: RetentionDeps,
  usage: CacheUsage,
  signal: AbortSignal,
): Promise<{ paths: number; path_bytes: number }> {
  const { db, retention, notifier, log } = deps;
  const sum = { paths: 0, path_bytes: 0 };
  const cacheId = usage.cache_id;
  const limits = { unusedMs: retention.unusedMs, freeBytes: bytesToFree(usage.bytes, usage.max_storage_gb) };
  const mark = { id: uuidV7(deps.clock.now(), deps.random), scope: await readRootScope(db, cacheId) };
  try {
    if (!(await markCache(db, mark, limits)) || (await queueDoomedTops(db, mark)) === 0) return sum;
    if (!(await flushUsesEverywhere(deps, signal))) {
      log.warn("a server has not written down which paths it was asked for: nothing was deleted for lack of use");
      return sum;
    }
    for (let place: QueuePlace | null = QUEUE_BEGIN; place && !signal.aborted; ) {
      const from: QueueRequest = { place, limit: PATHS_MAX };
      const done: DeletedPaths = await inTransaction(db, (trx) => deleteQueuedPaths(trx, mark, from), deps);
      for (const hash of done.hashes) notifier.notify("path", `${cacheId}/${hash}`);
      place = done.next;
      sum.paths += done.hashes.length;
      sum.path_bytes += done.bytes;
    }
  } finally {
    await forgetMark(db, mark.id);
  }
  if (limits.freeBytes > sum.path_bytes && !signal.aborted) {
    log.warn("a cache is nearly full, and nothing more may go: raise its limit, or keep less", {
      cache: cacheId,
      heldBytes: usage.bytes - sum.path_bytes,
      limitGb: usage.max_storage_gb,
    });
  }
  return sum;
}
