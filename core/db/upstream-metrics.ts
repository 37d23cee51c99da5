import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";
import type { UpstreamMetricTable } from "./tables/upstreams.ts";

export type UpstreamCounts = Omit<UpstreamMetricTable, "hour">;

/** Adds to what was counted within this hour. Upstreams that are gone meanwhile are passed over. */
export async function addUpstreamCounts(db: Kysely<Database>, counts: readonly UpstreamCounts[]): Promise<void> {
  await sql`
    insert into upstream_metric (upstream_id, hour, requests, latency_ms, hits, misses, failures)
    select r.upstream_id, date_trunc('hour', gradient_now()), r.requests, r.latency_ms, r.hits, r.misses, r.failures
    from jsonb_to_recordset(${JSON.stringify(counts)}::jsonb) as r(upstream_id uuid, requests bigint, latency_ms bigint,
      hits bigint, misses bigint, failures bigint)
    join cache_upstream u on u.id = r.upstream_id
    order by r.upstream_id
    on conflict (upstream_id, hour) do update set requests = upstream_metric.requests + excluded.requests,
      latency_ms = upstream_metric.latency_ms + excluded.latency_ms, hits = upstream_metric.hits + excluded.hits,
      misses = upstream_metric.misses + excluded.misses, failures = upstream_metric.failures + excluded.failures
  `.execute(db);
}

/** What was counted longer ago than the longest window that is shown. */
export async function deleteOldUpstreamCounts(db: Kysely<Database>, hoursMax: number): Promise<void> {
  await sql`delete from upstream_metric where hour < gradient_now() - ${hoursMax} * interval '1 hour'`.execute(db);
}

export interface UpstreamHour extends UpstreamMetricTable {
  readonly display_name: string;
  readonly url: string | null;
}

/** Hours of upstreams of these caches, by upstream and time. Null is all caches. */
export async function listUpstreamHours(
  db: Kysely<Database>,
  { cacheIds, windowHours, limit }: { cacheIds: readonly string[] | null; windowHours: number; limit: number },
): Promise<UpstreamHour[]> {
  return await db
    .selectFrom("upstream_metric as m")
    .innerJoin("cache_upstream as u", "u.id", "m.upstream_id")
    .selectAll("m")
    .select(["u.display_name", "u.url"])
    .where("m.hour", ">", sql<Date>`gradient_now() - ${windowHours} * interval '1 hour'`)
    .$if(cacheIds !== null, (query) => query.where("u.cache_id", "=", sql<string>`any(${cacheIds}::uuid[])`))
    .orderBy("m.upstream_id")
    .orderBy("m.hour")
    .limit(limit)
    .execute();
}
