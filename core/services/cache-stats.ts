import type { CacheStatsView, StoragePoint, TrafficPoint } from "../api/caches-nars.ts";
import { naiveTime } from "../api/times.ts";
import { type CacheSpan, type CacheTotals, listCacheSpans, sumCacheUsage } from "../db/cache-history.ts";
import type { Actor } from "../domain/actor.ts";
import { requireCache } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

/** What a cache holds and has sent: the last 60 minutes, 24 hours, 30 days and 12 weeks, each span of them. */
export async function getCacheStats(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  cacheName: string,
): Promise<CacheStatsView> {
  const { cache } = await requireCache({ db }, actor, cacheName, "read");
  const totals = await sumCacheUsage(db, cache.id);
  const spans = await listCacheSpans(db, cache.id);
  const [minutes, hours, days, weeks] = [0, 1, 2, 3].map((wanted) =>
    spans.filter(({ granularity }) => granularity === wanted),
  ) as [CacheSpan[], CacheSpan[], CacheSpan[], CacheSpan[]];
  return {
    total_bytes: totals.bytes,
    total_nar_bytes: totals.nar_bytes,
    total_packages: totals.paths,
    storage_minutes: storageOf(minutes, totals),
    storage_hours: storageOf(hours, totals),
    storage_days: storageOf(days, totals),
    storage_weeks: storageOf(weeks, totals),
    minutes: minutes.map(trafficOf),
    hours: hours.map(trafficOf),
    days: days.map(trafficOf),
    weeks: weeks.map(trafficOf),
  };
}

function trafficOf({ time, bytes, requests }: CacheSpan): TrafficPoint {
  return { time: naiveTime(time), bytes, requests };
}

/** What was held stays until something else is noted; the last span is now. */
function storageOf(spans: readonly CacheSpan[], { paths, bytes }: CacheTotals): StoragePoint[] {
  const now = { packages: paths, bytes };
  const isKnown = spans.some(({ packages }) => packages !== null);
  const first = spans[0];
  let held = isKnown ? { packages: first?.packages_before ?? 0, bytes: first?.stored_bytes_before ?? 0 } : now;
  return spans.map(({ time, packages, stored_bytes: storedBytes }, i) => {
    if (packages !== null) held = { packages, bytes: storedBytes ?? 0 };
    if (i === spans.length - 1) held = now;
    return { time: naiveTime(time), ...held };
  });
}
