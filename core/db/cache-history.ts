import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** By the numbers of `granularity`, how many spans of it are shown. */
const SPANS = sql`(values (0, 'minute', 60), (1, 'hour', 24), (2, 'day', 30), (3, 'week', 12))
  g(granularity, unit, shown)`;

export interface CacheTraffic {
  readonly cache_id: string;
  readonly requests: number;
  readonly bytes: number;
}

/**
 * Adds to what was sent just now, up to the largest number that is exact for whoever reads it. Caches that are gone
 * meanwhile are passed over.
 */
export async function addCacheTraffic(db: Kysely<Database>, sent: readonly CacheTraffic[]): Promise<void> {
  await sql`
    insert into cache_history (cache_id, granularity, bucket_start, requests, bytes)
    select c.id, g.granularity, date_trunc(g.unit, gradient_now(), 'UTC'), r.requests, r.bytes
    from jsonb_to_recordset(${JSON.stringify(sent)}::jsonb) as r(cache_id uuid, requests bigint, bytes bigint)
    join cache c on c.id = r.cache_id cross join ${SPANS}
    order by 1, 2
    on conflict (cache_id, granularity, bucket_start) do update set
      requests = cache_history.requests + excluded.requests,
      bytes = least(cache_history.bytes + excluded.bytes, ${Number.MAX_SAFE_INTEGER})
  `.execute(db);
}

/** Notes what these caches hold now. */
export async function noteCacheSizes(db: Kysely<Database>, cacheIds: readonly string[]): Promise<void> {
  await sql`
    insert into cache_history (cache_id, granularity, bucket_start, packages, stored_bytes)
    select c.id, g.granularity, date_trunc(g.unit, gradient_now(), 'UTC'), u.paths, u.bytes
    from cache c cross join lateral (
      select coalesce(sum(paths), 0) as paths, coalesce(sum(bytes), 0) as bytes from cache_usage where cache_id = c.id
    ) u cross join ${SPANS}
    where c.id = any(${cacheIds}::uuid[])
    order by 1, 2
    on conflict (cache_id, granularity, bucket_start) do update set
      packages = excluded.packages, stored_bytes = excluded.stored_bytes`.execute(db);
}

/** Deletes what is older than what is shown, but for the last size before: it held on. */
export async function deleteOldCacheHistory(db: Kysely<Database>): Promise<void> {
  await sql`
    delete from cache_history h using (
      select granularity, date_trunc(unit, gradient_now(), 'UTC') - shown * ('1 ' || unit)::interval as shown_from
      from ${SPANS}
    ) g
    where h.granularity = g.granularity and h.bucket_start < g.shown_from and (h.packages is null or exists (
      select from cache_history n
      where n.cache_id = h.cache_id and n.granularity = h.granularity and n.bucket_start > h.bucket_start
        and n.bucket_start < g.shown_from and n.packages is not null))`.execute(db);
}

export interface CacheSpan {
  readonly granularity: number;
  readonly time: Date;
  readonly requests: number;
  readonly bytes: number;
  readonly packages: number | null;
  readonly stored_bytes: number | null;
  /** What was held when the first of the spans began, as far as it is known. */
  readonly packages_before: number | null;
  readonly stored_bytes_before: number | null;
}

/** Every span that is shown, by granularity and time, whether or not there is anything to say of it. */
export async function listCacheSpans(db: Kysely<Database>, cacheId: string): Promise<CacheSpan[]> {
  const { rows } = await sql<CacheSpan>`
    with shown as materialized (
      select g.granularity, ('1 ' || g.unit)::interval as step, g.shown,
        date_trunc(g.unit, gradient_now() at time zone 'UTC') as newest
      from ${SPANS}
    )
    select g.granularity, s.start at time zone 'UTC' as time, coalesce(h.requests, 0)::float8 as requests,
      coalesce(h.bytes, 0)::float8 as bytes, h.packages::float8, h.stored_bytes::float8,
      b.packages::float8 as packages_before, b.stored_bytes::float8 as stored_bytes_before
    from shown g
    cross join lateral generate_series(g.newest - (g.shown - 1) * g.step, g.newest, g.step) as s(start)
    left join cache_history h on h.cache_id = ${cacheId} and h.granularity = g.granularity
      and h.bucket_start = s.start at time zone 'UTC'
    left join lateral (
      select packages, stored_bytes from cache_history
      where cache_id = ${cacheId} and granularity = g.granularity and packages is not null
        and bucket_start < (g.newest - (g.shown - 1) * g.step) at time zone 'UTC'
      order by bucket_start desc limit 1
    ) b on true
    order by g.granularity, s.start`.execute(db);
  return rows;
}

export interface CacheTotals {
  readonly paths: number;
  readonly bytes: number;
  readonly nar_bytes: number;
}

export async function sumCacheUsage(db: Kysely<Database>, cacheId: string): Promise<CacheTotals> {
  const { rows } = await sql<CacheTotals>`
    select coalesce(sum(paths), 0)::float8 as paths, coalesce(sum(bytes), 0)::float8 as bytes,
      coalesce(sum(nar_bytes), 0)::float8 as nar_bytes
    from cache_usage where cache_id = ${cacheId}`.execute(db);
  return rows[0] ?? { paths: 0, bytes: 0, nar_bytes: 0 };
}
