import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

/** Changes that are folded in one transaction. */
const FOLD_MAX = 10_000;

export interface CacheUsage {
  readonly cache_id: string;
  readonly max_storage_gb: number;
  readonly paths: number;
  /** Of the files that the paths are served from. */
  readonly bytes: number;
}

/** Of every cache and internal store. */
export async function listCacheUsage(db: Kysely<Database>): Promise<CacheUsage[]> {
  return await usageOf(db, sql`true`);
}

export async function findCacheUsage(db: Kysely<Database>, cacheId: string): Promise<CacheUsage | undefined> {
  return (await usageOf(db, sql`c.id = ${cacheId}`))[0];
}

async function usageOf(db: Kysely<Database>, which: RawBuilder<unknown>): Promise<CacheUsage[]> {
  const { rows } = await sql<CacheUsage>`
    select c.id as cache_id, c.max_storage_gb, coalesce(sum(u.paths), 0)::float8 as paths,
      coalesce(sum(u.bytes), 0)::float8 as bytes
    from cache c left join cache_usage u on u.cache_id = c.id
    where ${which}
    group by c.id order by c.id`.execute(db);
  return rows;
}

/** Makes one row of a cache's changes; nobody waits for it, and their sum stays. */
export async function foldCacheUsage(trx: Transaction<Database>, cacheId: string): Promise<void> {
  await sql`
    with folded as (
      delete from cache_usage where id in (
        select id from cache_usage where cache_id = ${cacheId} order by id limit ${FOLD_MAX} for update skip locked)
      returning paths, bytes, nar_bytes
    )
    insert into cache_usage (cache_id, paths, bytes, nar_bytes)
    select ${cacheId}, sum(paths), sum(bytes), sum(nar_bytes) from folded having count(*) > 0`.execute(trx);
}

/** Caches with more than a few changes to fold. */
export async function listCachesToFold(db: Kysely<Database>): Promise<string[]> {
  const { rows } = await sql<{ cache_id: string }>`
    select cache_id from cache_usage group by cache_id having count(*) > 100 order by cache_id`.execute(db);
  return rows.map(({ cache_id }) => cache_id);
}

/** Brings what is counted of a cache in line with what it holds. Answers by how many bytes it was off. */
export async function mendCacheUsage(db: Kysely<Database>, cacheId: string): Promise<number> {
  // One statement sees one moment: what is committed meanwhile is counted on both sides, or on none.
  const { rows } = await sql<{ bytes: number }>`
    with off as (
      select held.paths - counted.paths as paths, held.bytes - counted.bytes as bytes,
        held.nar_bytes - counted.nar_bytes as nar_bytes
      from (
        select count(*) as paths, coalesce(sum(n.file_size), 0) as bytes, coalesce(sum(n.nar_size), 0) as nar_bytes
        from cache_path p join nar n on n.nar_hash = p.nar_hash where p.cache_id = ${cacheId}
      ) held, (
        select coalesce(sum(u.paths), 0) as paths, coalesce(sum(u.bytes), 0) as bytes,
          coalesce(sum(u.nar_bytes), 0) as nar_bytes
        from cache_usage u where u.cache_id = ${cacheId}
      ) counted
    )
    insert into cache_usage (cache_id, paths, bytes, nar_bytes)
    select ${cacheId}, paths, bytes, nar_bytes from off where paths <> 0 or bytes <> 0 or nar_bytes <> 0
    returning bytes::float8 as bytes`.execute(db);
  return rows[0]?.bytes ?? 0;
}
