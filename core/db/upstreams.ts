import type { Insertable, Kysely, Updateable } from "kysely";
import type { CacheUpstreamRow, CacheUpstreamTable, Database } from "./schema.ts";

export type UpstreamChanges = Pick<Updateable<CacheUpstreamTable>, "display_name" | "mode" | "url" | "public_keys">;

/** Modes that let a cache read what its upstream has: read and write, read only. */
const READABLE_MODES = [0, 1];
const HTTP = 2;

/** Upstreams of all caches that can be asked, the oldest first. */
export async function listReadableUpstreams(
  db: Kysely<Database>,
  limit: number,
): Promise<Pick<CacheUpstreamRow, "id" | "cache_id" | "url" | "public_keys">[]> {
  return await db
    .selectFrom("cache_upstream")
    .select(["id", "cache_id", "url", "public_keys"])
    .where("kind", "=", HTTP)
    .where("mode", "in", READABLE_MODES)
    .orderBy("id")
    .limit(limit)
    .execute();
}

export async function listUpstreamsOfCache(db: Kysely<Database>, cacheId: string): Promise<CacheUpstreamRow[]> {
  return await db.selectFrom("cache_upstream").selectAll().where("cache_id", "=", cacheId).orderBy("id").execute();
}

/** Fails on `cache_upstream_url_key`. */
export async function insertUpstream(
  db: Kysely<Database>,
  upstream: Omit<Insertable<CacheUpstreamTable>, "kind">,
): Promise<void> {
  await db
    .insertInto("cache_upstream")
    .values({ ...upstream, kind: HTTP })
    .execute();
}

/** Fails on `cache_upstream_url_key`. False when the cache has no such upstream. */
export async function updateUpstream(
  db: Kysely<Database>,
  { id, cacheId }: { readonly id: string; readonly cacheId: string },
  changes: UpstreamChanges,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("cache_upstream")
    .set(changes)
    .where("id", "=", id)
    .where("cache_id", "=", cacheId)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** With everything that was seen there. False when the cache has no such upstream. */
export async function deleteUpstream(
  db: Kysely<Database>,
  { id, cacheId }: { readonly id: string; readonly cacheId: string },
): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("cache_upstream")
    .where("id", "=", id)
    .where("cache_id", "=", cacheId)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}
