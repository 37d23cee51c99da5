import { sql } from "kysely";
import type { PreviewQuery, PreviewView } from "../api/caches-retention.ts";
import { naiveTime } from "../api/times.ts";
import { findCacheUsage } from "../db/cache-usage.ts";
import { forgetMark, listDoomed, sumDoomed } from "../db/retention-marks.ts";
import { readRootScope } from "../db/retention-roots.ts";
import type { Actor } from "../domain/actor.ts";
import { bytesToFree } from "../domain/retention.ts";
import { DomainError } from "../errors.ts";
import { HOUR } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireCache } from "./access.ts";
import type { RetentionDeps } from "./retention-deps.ts";
import { markCache } from "./retention-paths.ts";

const SHOWN_MAX = 100;
const NOTHING = { paths: 0, bytes: 0, freed_bytes: 0 };

/**
 * What the next sweep would take from a cache as it is now, or as it would be with another limit or TTL. It takes as
 * long as a sweep looks: one at a time, `service_unavailable` for a second.
 */
export async function previewSweep(
  deps: Pick<RetentionDeps, "db" | "clock" | "random" | "retention">,
  actor: Actor,
  cacheName: string,
  query: PreviewQuery,
): Promise<PreviewView> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheSettings");
  const unusedMs = query.ttl_hours === undefined ? deps.retention.unusedMs : query.ttl_hours * HOUR;
  return await deps.db.transaction().execute(async (trx) => {
    const { rows } = await sql<{ free: boolean }>`
      select pg_try_advisory_xact_lock(hashtextextended('retention preview', 0)) as free`.execute(trx);
    if (!rows[0]?.free) {
      throw new DomainError("service_unavailable", "Another preview is being made: try again in a moment");
    }
    const usage = await findCacheUsage(trx, cache.id);
    const held = { paths: usage?.paths ?? 0, bytes: usage?.bytes ?? 0 };
    const freeBytes = bytesToFree(held.bytes, query.max_storage_gb ?? cache.max_storage_gb);
    const mark = { id: uuidV7(deps.clock.now(), deps.random), scope: await readRootScope(trx, cache.id) };
    if (!(await markCache(trx, mark, { unusedMs, freeBytes }))) return { held, doomed: NOTHING, largest: [] };
    const doomed = await sumDoomed(trx, mark);
    const largest = (await listDoomed(trx, mark, SHOWN_MAX)).map(({ store_path, file_size, last_used_at }) => ({
      store_path: `/nix/store/${store_path}`,
      file_size,
      last_used_at: naiveTime(last_used_at),
    }));
    await forgetMark(trx, mark.id);
    return { held, doomed, largest };
  });
}
