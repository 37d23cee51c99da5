import type { SeriesPoint, UpstreamFigures, UpstreamsQuery } from "../api/board-upstreams.ts";
import { zonedTime } from "../api/times.ts";
import { listUpstreamHours, type UpstreamHour } from "../db/upstream-metrics.ts";
import { cacheMaskOfKey } from "../domain/access.ts";
import type { Actor } from "../domain/actor.ts";
import { allowsCache } from "../domain/permissions.ts";
import type { ServiceDeps } from "./deps.ts";

/** A hundred upstreams over 90 days are 216 000. */
const HOURS_MAX = 250_000;

/** Upstreams of the caches that the actor may see, by how they have answered lately. */
export async function listUpstreamFigures(
  { db }: Pick<ServiceDeps, "db">,
  { user, key }: Actor,
  { window_hours: windowHours }: UpstreamsQuery,
): Promise<{ readonly upstreams: readonly UpstreamFigures[] }> {
  const views = user !== null && allowsCache(cacheMaskOfKey(key), "viewCache");
  const scope = {
    everything: user?.superuser === true && !key,
    userId: views ? user.id : null,
    organizationId: key?.organizationId ?? null,
    cacheId: key?.cacheId ?? null,
  };
  const hours = await listUpstreamHours(db, scope, { windowHours, limit: HOURS_MAX });
  const byUpstream = Map.groupBy(hours, ({ upstream_id }) => upstream_id);
  return { upstreams: Array.from(byUpstream.values(), figuresOf) };
}

function figuresOf(hours: readonly UpstreamHour[]): UpstreamFigures {
  const sum = (value: (hour: UpstreamHour) => number) => hours.reduce((total, hour) => total + value(hour), 0);
  const requests = sum((hour) => hour.requests);
  const answers = sum((hour) => hour.hits + hour.misses);
  const [first] = hours as readonly [UpstreamHour];
  const point = ({ hour }: UpstreamHour, count: number, total: number): SeriesPoint => ({
    bucket_start: zonedTime(hour),
    count,
    sum: total,
  });
  return {
    upstream_id: first.upstream_id,
    display_name: first.display_name,
    url: first.url,
    avg_latency_ms: requests === 0 ? null : sum((hour) => hour.latency_ms) / requests,
    hit_rate: answers === 0 ? null : sum((hour) => hour.hits) / answers,
    requests_total: requests,
    failures_total: sum((hour) => hour.failures),
    latency: hours.map((hour) => point(hour, hour.requests, hour.latency_ms)),
    hit_rate_series: hours.map((hour) => point(hour, hour.hits + hour.misses, hour.hits)),
  };
}
