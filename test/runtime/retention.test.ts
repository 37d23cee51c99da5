import { type Kysely, sql } from "kysely";
import { expect, test } from "vitest";
import { SweepKind } from "#core/db/retention-sweeps.ts";
import type { Database } from "#core/db/schema.ts";
import { EvaluationStatus } from "#core/domain/states.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { type RunningServer, startServer } from "#runtime/node/server.ts";
import { withDatabase } from "#test/support/database.ts";
import {
  insertBuild,
  insertCacheOf,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
} from "#test/support/rows.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

async function start(basePath: string, options: Record<string, string>, url: string): Promise<RunningServer> {
  const { config } = readConfig({ GRADIENT_BASE_PATH: basePath, GRADIENT_PORT: "0", ...options });
  const secret = new TextEncoder().encode("s".repeat(48));
  const given = { database: { ...config.database, url }, secrets: { jwt: secret, crypt: secret } };
  return await startServer({ ...config, ...given }, createLoggers(config.logLevels, { write: () => {} }));
}

async function finishedSweeps(db: Kysely<Database>): Promise<number> {
  const rows = await db
    .selectFrom("retention_sweep")
    .select("id")
    .where("kind", "=", SweepKind.Rows)
    .where("finished_at", "is not", null)
    .execute();
  return rows.length;
}

/** A path that was used so many hours ago. */
async function insertPath(db: Kysely<Database>, cacheId: string, name: string, hours: number): Promise<void> {
  const hash = name.padEnd(32, "0");
  await sql`
    with n as (
      insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
      values (sha256(${name}::bytea), 1, sha256(${name}::bytea), 1, 'zstd', ${`nar/${name}/x`}) returning nar_hash
    )
    insert into cache_path (cache_id, hash, store_path, nar_hash, created_at, last_used_at)
    select ${cacheId}, ${hash}, ${`${hash}-x`}, nar_hash, t, t
    from n, (select gradient_now() - ${hours} * interval '1 hour' as t) t`.execute(db);
}

test("a server sweeps by its options at its start and when the interval is over, and never twice in one", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const { db } = database;
  const organizationId = await insertOrganization(db, { name: "acme" });
  const projectId = await insertProjectRow(db, { organizationId });
  const cacheId = await insertCacheOf(db, organizationId);
  for (let n = 0; n < 3; n++) {
    const id = await insertEvaluationRow(db, { organizationId, projectId, status: EvaluationStatus.Aborted });
    await sql`update evaluation set finished_at = gradient_now() where id = ${id}`.execute(db);
  }
  const build = await insertBuild(db, { organizationId, name: "orphan", status: 5 });
  await sql`update build set updated_at = gradient_now() - interval '3 hours' where id = ${build}`.execute(db);
  await insertPath(db, cacheId, "a", 5);
  await insertPath(db, cacheId, "b", 3);
  await sql`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key, claimed_at)
    values ('\\x00', 1, '\\x00', 1, 'zstd', 'nar/00/x', gradient_now() - interval '3 hours')`.execute(db);
  const left = async () => {
    const { rows } = await sql<{ left: object }>`
      select jsonb_build_object('paths', (select array_agg(left(hash, 1) order by hash) from cache_path),
        'evaluations', (select count(*) from evaluation), 'builds', (select count(*) from build),
        'nars', (select count(*) from nar where nar_hash = '\\x00')) as left`.execute(db);
    return rows[0]?.left;
  };
  const options = {
    GRADIENT_NAR_TTL_HOURS: "4",
    GRADIENT_KEEP_EVALUATIONS: "2",
    GRADIENT_KEEP_ORPHAN_DERIVATIONS_HOURS: "2",
    GRADIENT_NAR_UPLOAD_GRACE_HOURS: "2",
    GRADIENT_CACHE_MAINTENANCE_INTERVAL_SECS: "600",
  };

  const first = await start(folder.path, options, database.url);
  await expect.poll(() => finishedSweeps(db), { timeout: 10_000 }).toBe(1);
  await first.close();
  expect(await left()).toEqual({ paths: ["b"], evaluations: 2, builds: 0, nars: 0 });

  // What the loop does last tells that it has looked.
  await sql`insert into discarded_object values ('nar/gone/x', gradient_now() - interval '1 hour')`.execute(db);
  const second = await start(folder.path, options, database.url);
  await expect
    .poll(() => db.selectFrom("discarded_object").select("object_key").execute(), { timeout: 10_000 })
    .not.toContainEqual({ object_key: "nar/gone/x" });
  await second.close();
  expect(await finishedSweeps(db), "the interval is not over").toBe(1);

  await sql`update retention_sweep set finished_at = finished_at - interval '11 minutes'`.execute(db);
  const third = await start(folder.path, options, database.url);
  await expect.poll(() => finishedSweeps(db), { timeout: 10_000 }).toBe(2);
  await third.close();
});
