import { sql } from "kysely";
import { RETENTION_DEFAULTS, type RetentionSettings } from "#core/domain/retention.ts";
import { DAY } from "#core/lib/clock.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { RetentionDeps } from "#core/services/retention-deps.ts";
import { type SweepReport, sweep } from "#core/services/retention-sweep.ts";
import { insertBuild, insertEvaluationRow, insertProjectRow, linkBuild } from "#test/support/rows.ts";
import { type CacheBench, type StoredPath, storeFile, type TestCache, withCacheBench } from "../cache/support.ts";

/** A cache of an organization, on a database and a store of its own. */
export interface RetentionBench extends CacheBench {
  readonly cache: TestCache;
  readonly organizationId: string;
  readonly projectId: string;
  retentionDeps(settings?: Partial<RetentionSettings>): RetentionDeps;
  sweep(settings?: Partial<RetentionSettings>): Promise<SweepReport>;
  /** A path of the cache that is `days` old and was not used since. */
  add(name: string, options?: AddOptions): Promise<StoredPath>;
  /** Base names without their hashes. */
  names(cacheId?: string): Promise<string[]>;
}

export interface AddOptions {
  readonly references?: readonly StorePath[];
  readonly days?: number;
  readonly content?: Uint8Array<ArrayBuffer>;
  readonly cacheIds?: readonly string[];
}

export const NEVER: AbortSignal = new AbortController().signal;

export async function withRetentionBench(): Promise<RetentionBench> {
  const bench = await withCacheBench();
  const cache = await bench.makeCache();
  const organizationId = await bench.makeOrganization();
  await bench.subscribe(organizationId, cache.id, 0);
  const projectId = await insertProjectRow(bench.deps.db, { organizationId });
  const retentionDeps = (settings: Partial<RetentionSettings> = {}): RetentionDeps => ({
    ...bench.deps,
    retention: { ...RETENTION_DEFAULTS, ...settings },
  });
  return {
    ...bench,
    cache,
    organizationId,
    projectId,
    retentionDeps,
    sweep: (settings) => sweep(retentionDeps(settings), NEVER),
    async add(name, { days = 30, cacheIds = [cache.id], ...options } = {}) {
      const path = await storeFile(bench, name, options);
      await bench.commit(cacheIds, [path]);
      await age(bench, path.storePath, days);
      return path;
    },
    async names(cacheId = cache.id) {
      const rows = await bench.deps.db
        .selectFrom("cache_path")
        .select("store_path")
        .where("cache_id", "=", cacheId)
        .orderBy(sql`substring(store_path from 34)`)
        .execute();
      return rows.map(({ store_path }) => store_path.slice(33));
    },
  };
}

/** As if the path had come so many days ago, and nobody had asked for it since. */
export async function age({ deps }: Pick<CacheBench, "deps">, storePath: StorePath, days: number): Promise<void> {
  const name = storePath.slice("/nix/store/".length);
  const then = sql<Date>`gradient_now() - ${days * DAY} * interval '1 millisecond'`;
  await sql`
    update cache_path set created_at = ${then}, last_used_at = ${then}
    where store_path = ${name}`.execute(deps.db);
  await sql`
    update nar set created_at = ${then}, claimed_at = ${then}
    where nar_hash in (select nar_hash from cache_path where store_path = ${name})`.execute(deps.db);
}

/** A build whose output is this path, linked from a new evaluation of the bench's project. Both have ended well. */
export async function buildOf(
  bench: RetentionBench,
  storePath: StorePath,
  { status = 3, evaluationStatus = 5 }: { readonly status?: number; readonly evaluationStatus?: number } = {},
): Promise<{ readonly buildId: string; readonly evaluationId: string }> {
  const { db } = bench.deps;
  const { organizationId, projectId } = bench;
  const evaluationId = await insertEvaluationRow(db, { organizationId, projectId, status: evaluationStatus });
  const buildId = await insertBuild(db, { organizationId, name: "built", status });
  await db
    .updateTable("build_output")
    .set({ store_path: storePath.slice("/nix/store/".length), available: status === 3 })
    .where("build_id", "=", buildId)
    .execute();
  await linkBuild(db, evaluationId, buildId, evaluationStatus === 5 ? { outcome: status } : {});
  return { buildId, evaluationId };
}
