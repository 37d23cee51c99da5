import { type Kysely, sql } from "kysely";
import type { CacheScope } from "./caches.ts";
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

/** Whose caches are looked at, beside public ones. */
export interface UpstreamScope extends Omit<CacheScope, "userId"> {
  readonly everything: boolean;
  readonly userId: string | null;
}

/** Hours of upstreams of the caches that a user sees, by upstream and time. */
export async function listUpstreamHours(
  db: Kysely<Database>,
  { everything, userId, organizationId, cacheId }: UpstreamScope,
  { windowHours, limit }: { readonly windowHours: number; readonly limit: number },
): Promise<UpstreamHour[]> {
  const result = await sql<UpstreamHour>`
    select m.*, u.display_name, u.url
    from upstream_metric m join cache_upstream u on u.id = m.upstream_id join cache c on c.id = u.cache_id
    where m.hour > gradient_now() - ${windowHours} * interval '1 hour' and c.kind = 0 and (
      ${everything} or c.public or ((${cacheId}::uuid is null or c.id = ${cacheId}) and (
        (${organizationId}::uuid is null and exists (
          select from cache_member a join cache_role r on r.id = a.role_id
          where a.cache_id = c.id and a.user_id = ${userId}::uuid and r.permissions & 1 <> 0))
        or exists (
          select from organization_cache s join organization_member o on o.organization_id = s.organization_id
          where s.cache_id = c.id and o.user_id = ${userId}::uuid
            and (${organizationId}::uuid is null or s.organization_id = ${organizationId}))))
    )
    order by m.upstream_id, m.hour
    limit ${limit}`.execute(db);
  return result.rows;
}
