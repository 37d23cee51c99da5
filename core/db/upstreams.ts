import { type Expression, type Insertable, type Kysely, type SqlBool, sql, type Updateable } from "kysely";
import { type SigningCache, withKeys } from "./cache-keys.ts";
import type { CacheRow, Database } from "./schema.ts";
import type { CacheUpstreamRow, CacheUpstreamTable } from "./tables/upstreams.ts";

/** What an upstream is. The numbers are those of the database. */
export const UpstreamKind = { Internal: 0, Gradient: 1, Http: 2 } as const;

export type UpstreamChanges = Pick<
  Updateable<CacheUpstreamTable>,
  "display_name" | "mode" | "url" | "public_keys" | "api_key"
>;
export type ReadableUpstream = Pick<
  CacheUpstreamRow,
  "id" | "cache_id" | "kind" | "display_name" | "url" | "public_keys" | "upstream_cache_id" | "remote_cache" | "api_key"
>;

/**
 * Of rows `u` of `cache_upstream`: whether what the upstream has may be given out. Another cache of this server that is
 * not public is open only through one that is not public either, and only while whoever added it may still read it.
 */
export const isReadableUpstream: Expression<SqlBool> = sql<SqlBool>`(
  u.mode in (0, 1) and (u.kind <> 0 or exists (
    select from cache c, cache source
    where c.id = u.cache_id and source.id = u.upstream_cache_id and source.kind = 0 and source.active
      and (source.public or (not c.public and exists (
        select from user_account a where a.id = u.added_by and a.active and (
          exists (
            select from cache_member m join cache_role r on r.id = m.role_id
            where m.cache_id = source.id and m.user_id = a.id and r.permissions & 2 <> 0)
          or exists (
            select from organization_cache s join organization_member o on o.organization_id = s.organization_id
            where s.cache_id = source.id and s.mode in (0, 1) and o.user_id = a.id))))))))`;

/** Upstreams of all caches that can be asked now, the oldest first. */
export async function listReadableUpstreams(db: Kysely<Database>, limit: number): Promise<ReadableUpstream[]> {
  return await db
    .selectFrom("cache_upstream as u")
    .select(["u.id", "u.cache_id", "u.kind", "u.display_name", "u.url", "u.public_keys"])
    .select(["u.upstream_cache_id", "u.remote_cache", "u.api_key"])
    .where(isReadableUpstream)
    .orderBy("u.id")
    .limit(limit)
    .execute();
}

export type ListedUpstream = CacheUpstreamRow & { readonly upstream_cache_name: string | null };

export async function listUpstreamsOfCache(db: Kysely<Database>, cacheId: string): Promise<ListedUpstream[]> {
  return await db
    .selectFrom("cache_upstream as u")
    .leftJoin("cache as source", "source.id", "u.upstream_cache_id")
    .selectAll("u")
    .select("source.name as upstream_cache_name")
    .where("u.cache_id", "=", cacheId)
    .orderBy("u.id")
    .execute();
}

export async function findUpstream(
  db: Kysely<Database>,
  { id, cacheId }: { readonly id: string; readonly cacheId: string },
): Promise<CacheUpstreamRow | undefined> {
  return await db
    .selectFrom("cache_upstream")
    .selectAll()
    .where("id", "=", id)
    .where("cache_id", "=", cacheId)
    .executeTakeFirst();
}

/** Fails on `cache_upstream_url_key`. */
export async function insertUpstream(db: Kysely<Database>, upstream: Insertable<CacheUpstreamTable>): Promise<void> {
  await db.insertInto("cache_upstream").values(upstream).execute();
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

/**
 * `id`, and rows of other caches for what it leads to, as far as they were told that it has a path of this hash: what
 * it has lost, it has lost for each of them. With an API key one may be shown something else.
 */
export async function listSameUpstreams(
  db: Kysely<Database>,
  { id, hash }: { readonly id: string; readonly hash: string },
): Promise<{ id: string; cache_id: string }[]> {
  const result = await sql<{ id: string; cache_id: string }>`
    select same.id, same.cache_id from cache_upstream u join cache_upstream same
      on same.url = u.url and same.remote_cache is not distinct from u.remote_cache
    where u.id = ${id} and (same.id = u.id or (same.api_key is null and u.api_key is null and exists (
      select from upstream_path p where p.upstream_id = same.id and p.hash = ${hash} and p.found)))
    order by same.id`.execute(db);
  return result.rows;
}

/**
 * Which paths the caches of this server hold that these rest on, and which of these it is. Base names: the caller
 * compares the whole of them.
 */
export async function listInternalPaths(
  db: Kysely<Database>,
  { cacheIds, hashes }: { readonly cacheIds: readonly string[]; readonly hashes: readonly string[] },
): Promise<{ cache_id: string; store_path: string }[]> {
  const result = await sql<{ cache_id: string; store_path: string }>`
    select u.cache_id, p.store_path
    from cache_upstream u
    join cache_path p on p.cache_id = u.upstream_cache_id and p.hash = any(${hashes}::text[])
      and p.incomplete_at is null
    join nar n on n.nar_hash = p.nar_hash and n.damaged_at is null
    where u.cache_id = any(${cacheIds}::uuid[]) and u.kind = 0 and ${isReadableUpstream}`.execute(db);
  return result.rows;
}

/** What a cache signs with, and whether it keeps what passes. */
export type RelayingCache = SigningCache & Pick<CacheRow, "pull_through">;

export async function findRelayingCache(db: Kysely<Database>, id: string): Promise<RelayingCache | undefined> {
  const row = await db.selectFrom("cache").select(["id", "pull_through"]).where("id", "=", id).executeTakeFirst();
  return row && (await withKeys(db, [row]))[0];
}

/** Caches of this server that rest on this one. */
export async function listCachesRestingOn(db: Kysely<Database>, cacheId: string): Promise<string[]> {
  const rows = await db
    .selectFrom("cache_upstream")
    .select("cache_id")
    .distinct()
    .where("upstream_cache_id", "=", cacheId)
    .execute();
  return rows.map((row) => row.cache_id);
}
