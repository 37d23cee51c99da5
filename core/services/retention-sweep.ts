import { foldCacheUsage, listCachesToFold, listCacheUsage, mendCacheUsage } from "../db/cache-usage.ts";
import { forgetOldMarks } from "../db/retention-marks.ts";
import { finishSweep, forgetOldSweeps, insertSweep, SweepKind } from "../db/retention-sweeps.ts";
import { inTransaction } from "../db/transaction.ts";
import { bytesToFree, GIGABYTE } from "../domain/retention.ts";
import { DAY } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { RetentionDeps } from "./retention-deps.ts";
import { deleteDiscardedObjects, type OrphanSweep, sweepOrphanObjects } from "./retention-objects.ts";
import { sweepCache } from "./retention-paths.ts";
import { sweepBuilds, sweepEvaluations, sweepNars } from "./retention-rows.ts";

/** How many of each went. Bytes are those of files. */
export interface SweepReport extends Record<string, number> {
  readonly evaluations: number;
  readonly builds: number;
  readonly paths: number;
  readonly path_bytes: number;
  readonly nars: number;
  readonly nar_bytes: number;
  readonly cache_logs: number;
}

/**
 * Deletes everything that nothing keeps any more, rows first and objects later. One server does it at a time, yet two
 * at once, or one that dies at any line, do no harm: each deletion decides for itself, and the next sweep goes on.
 */
export async function sweep(deps: RetentionDeps, signal: AbortSignal): Promise<SweepReport> {
  const { db, clock, random, log } = deps;
  const id = uuidV7(clock.now(), random);
  await insertSweep(db, { id, kind: SweepKind.Rows });
  await forgetOldMarks(db, uuidV7(clock.now() - DAY, random));
  await forgetOldSweeps(db);
  // In this order each lets go of what the next one would keep.
  const evaluations = await sweepEvaluations(deps, signal);
  const builds = await sweepBuilds(deps, signal);
  const paths = await sweepCaches(deps, signal, () => true);
  const report = { ...evaluations, ...builds, ...paths, ...(await sweepNars(deps, signal)) };
  if (signal.aborted) return report;
  await finishSweep(db, id, report);
  if (Object.values(report).some((count) => count > 0)) log.info("what nothing keeps any more was deleted", report);
  return report;
}

/** Only in caches that are nearly full; `tried` remembers where that was in vain, until more has come. */
export async function sweepFullCaches(
  deps: RetentionDeps,
  signal: AbortSignal,
  tried: Map<string, number>,
): Promise<number> {
  const { paths } = await sweepCaches(deps, signal, ({ cache_id, bytes, max_storage_gb }) => {
    if (bytesToFree(bytes, max_storage_gb) === 0) {
      tried.delete(cache_id);
      return false;
    }
    const before = tried.get(cache_id);
    tried.set(cache_id, bytes);
    return before === undefined || bytes > before + max_storage_gb * GIGABYTE * 0.01;
  });
  if (paths > 0) await sweepNars(deps, signal);
  return paths;
}

async function sweepCaches(
  deps: RetentionDeps,
  signal: AbortSignal,
  wanted: (usage: Awaited<ReturnType<typeof listCacheUsage>>[number]) => boolean,
): Promise<{ paths: number; path_bytes: number }> {
  const sum = { paths: 0, path_bytes: 0 };
  for (const usage of (await listCacheUsage(deps.db)).filter(wanted)) {
    if (signal.aborted) break;
    const { paths, path_bytes } = await sweepCache(deps, usage, signal);
    sum.paths += paths;
    sum.path_bytes += path_bytes;
  }
  return sum;
}

/** Looks for what no row names in the store, and for counters that are off. For once a day: it reads everything. */
export async function sweepStorage(
  deps: RetentionDeps,
  signal: AbortSignal,
  options: { readonly force?: boolean } = {},
): Promise<OrphanSweep> {
  const { db, clock, random, log } = deps;
  const id = uuidV7(clock.now(), random);
  await insertSweep(db, { id, kind: SweepKind.Objects });
  for (const { cache_id: cache } of await listCacheUsage(db)) {
    if (signal.aborted) break;
    const bytes = await mendCacheUsage(db, cache);
    if (bytes !== 0) log.error("what a cache holds was counted wrong; it is mended", { cache, bytes });
  }
  const report = await sweepOrphanObjects(deps, signal, options);
  if (signal.aborted) return report;
  await finishSweep(db, id, report);
  if (report.orphans > 0) log.info("objects that no row names are deleted", report);
  return report;
}

/** Small things between sweeps: deletes what is discarded, and folds what caches have counted. */
export async function tidyRetention(deps: RetentionDeps, signal: AbortSignal): Promise<void> {
  for (const cacheId of await listCachesToFold(deps.db)) {
    await inTransaction(deps.db, (trx) => foldCacheUsage(trx, cacheId), deps);
  }
  for (let more = true; more && !signal.aborted; ) more = (await deleteDiscardedObjects(deps)).more;
}
