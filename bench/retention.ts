import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kysely, PostgresDialect, sql } from "kysely";
import { listCacheUsage } from "#core/db/cache-usage.ts";
import { findCacheObstacle } from "#core/db/evaluation-waiting.ts";
import { forgetMark, type Mark, noteIdlePaths, spreadUses, sumDoomed } from "#core/db/retention-marks.ts";
import { readRootScope } from "#core/db/retention-roots.ts";
import type { Database } from "#core/db/schema.ts";
import { RETENTION_DEFAULTS } from "#core/domain/retention.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom, uuidV7 } from "#core/lib/ids.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { markCache, sweepCache } from "#core/services/retention-paths.ts";
import { sweepBuilds, sweepEvaluations, sweepNars } from "#core/services/retention-rows.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { migrate } from "#runtime/node/migrate.ts";
import { openPool } from "#runtime/node/pool.ts";
import { startPostgres } from "#runtime/node/postgres/start.ts";
import { insertCacheOf, insertEvaluationRow, insertOrganization, insertProjectRow } from "#test/support/rows.ts";

// How long a sweep takes in a cache with many paths, part by part: node bench/retention.ts [paths]. Each path refers to
// eight others; half of them were not used for the TTL, and of these every tenth is an output of a linked build.

const paths = Number(process.argv[2] ?? 1_000_000);
const folder = await mkdtemp(join(tmpdir(), "gradient-retention-"));
const log = createLoggers(readConfig({}).config.logLevels).main;
const postgres = await startPostgres({ folder, log });
const pool = openPool(postgres.address, { name: "bench", connectionsMax: 4 });
const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
try {
  await migrate(db);
  await run();
} finally {
  await db.destroy();
  await postgres.stop();
  await rm(folder, { recursive: true, force: true });
}

async function timed<T>(what: string, body: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  const result = await body();
  const seconds = ((performance.now() - begin) / 1_000).toFixed(2);
  process.stdout.write(`${what.padEnd(58)} ${seconds.padStart(8)} s  ${summary(result)}\n`);
  return result;
}

function summary(result: unknown): string {
  return typeof result === "object" && result !== null ? JSON.stringify(result).slice(0, 120) : String(result ?? "");
}

async function run(): Promise<void> {
  const organizationId = await insertOrganization(db, { name: "acme" });
  const projectId = await insertProjectRow(db, { organizationId });
  const cacheId = await insertCacheOf(db, organizationId);
  const evaluationId = await insertEvaluationRow(db, { organizationId, projectId, status: 5 });
  await timed(`${paths} paths are inserted`, () => fill({ organizationId, cacheId, evaluationId }));
  await timed("analyze", () => sql`analyze`.execute(db).then(() => null));
  const unusedMs = RETENTION_DEFAULTS.unusedMs;
  const deps = {
    db,
    log,
    clock: systemClock,
    random: systemRandom,
    notifier: { notify: () => {}, subscribe: () => () => {} },
    blobs: {} as BlobStore,
    retention: RETENTION_DEFAULTS,
  };
  const never = new AbortController().signal;
  await timed("has a cache room? (what each new evaluation asks)", () => findCacheObstacle(db, organizationId));
  await timed("how much does each cache hold?", () => listCacheUsage(db));
  const mark: Mark = { id: uuidV7(Date.now()), scope: await readRootScope(db, cacheId) };
  await timed("idle paths are noted", () => noteIdlePaths(db, mark, unusedMs));
  await timed("uses are handed down", () => spreadUses(db, mark));
  await forgetMark(db, mark.id);
  const full: Mark = { id: uuidV7(Date.now()), scope: mark.scope };
  const freeBytes = paths * 100;
  await timed("a full cache is looked through whole", () => markCache(db, full, { unusedMs, freeBytes }));
  await timed("what would go is added up", () => sumDoomed(db, full));
  await forgetMark(db, full.id);
  await timed("evaluations are swept", () => sweepEvaluations(deps, never));
  await timed("builds are swept", () => sweepBuilds(deps, never));
  const usage = (await listCacheUsage(db)).find(({ cache_id }) => cache_id === cacheId);
  if (!usage) throw new Error("the cache is gone");
  await timed("paths are swept", () => sweepCache(deps, usage, never));
  await timed("NARs are swept", () => sweepNars(deps, never));
  await timed("paths are swept once more, nothing goes", () => sweepCache(deps, usage, never));
}

/** Closures of forty paths that refer to each other, and each path to two of the first hundred. */
async function fill(ids: {
  readonly organizationId: string;
  readonly cacheId: string;
  readonly evaluationId: string;
}): Promise<null> {
  const { organizationId, cacheId, evaluationId } = ids;
  const name = (n: string) => sql.raw(`translate(lpad(to_hex((${n})::int), 32, '0'), 'e', 'z') || '-path'`);
  await sql`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key, claimed_at)
    select sha256(n::text::bytea), 1000, sha256(n::text::bytea), 1000, 'zstd', 'nar/x/' || n,
      gradient_now() - interval '60 days'
    from generate_series(1, ${paths}) n`.execute(db);
  await sql`
    insert into cache_path (cache_id, hash, store_path, nar_hash, "references", deriver, signatures, created_at,
      last_used_at)
    select ${cacheId}, left(${name("n")}, 32), ${name("n")}, sha256(n::text::bytea), array(
        select distinct ${name("r")} from (
          select n - 1 - (k * k) % greatest(1, (n - 1) % 40) as r from generate_series(0, 5) k where (n - 1) % 40 > 0
          union select 1 + n % 100 union select 1 + n % 70 union select n) r where r > 0 and r <= n),
      ${name("n")} || '.drv', array['key:' || repeat('x', 88)], gradient_now() - interval '60 days',
      gradient_now() - case when n % 2 = 0 then interval '1 day' else interval '30 days' end
    from generate_series(1, ${paths}) n`.execute(db);
  await sql`
    insert into build (id, organization_id, drv_path, name, system, status, updated_at)
    select gen_random_uuid(), ${organizationId}, ${name("n")} || '.drv', 'path', 'x86_64-linux', 3,
      gradient_now() - interval '30 days'
    from generate_series(1, ${paths / 5}::int) n`.execute(db);
  await sql`
    insert into build_output (build_id, name, store_path, available)
    select id, 'out', left(drv_path, -4), true from build`.execute(db);
  await sql`
    insert into evaluation_build (id, evaluation_id, build_id, outcome)
    select gen_random_uuid(), ${evaluationId}, id, 3 from build
    where left(drv_path, 32) < ${name(String(paths / 10))}`.execute(db);
  // What is used lately would keep nearly everything below it: most of a real cache is of closures that went together.
  await sql`
    update cache_path set last_used_at = gradient_now() - interval '30 days'
    where cache_id = ${cacheId} and hash > left(${name(String(paths / 2))}, 32)`.execute(db);
  return null;
}
