import { sql } from "kysely";
import { afterAll, beforeEach, expect, test } from "vitest";
import { listCacheUsage, mendCacheUsage } from "#core/db/cache-usage.ts";
import { findCacheObstacle } from "#core/db/evaluation-waiting.ts";
import { listLatestSuccesses } from "#core/db/latest-successes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { deepSweepTask } from "#core/services/retention-deep.ts";
import { deleteDiscardedObjects } from "#core/services/retention-objects.ts";
import { sweepFullCaches, sweepStorage, tidyRetention } from "#core/services/retention-sweep.ts";
import { loseSuspects } from "#core/services/transitions/loss.ts";
import { insertAttempt, insertBuild, insertEvaluationRow, insertProjectRow, linkBuild } from "#test/support/rows.ts";
import { newId, storeFile } from "../cache/support.ts";
import { buildOf, NEVER, type RetentionBench, withRetentionBench } from "./support.ts";

const bench: RetentionBench = await withRetentionBench();
afterAll(() => bench[Symbol.asyncDispose]());
const { db, blobs } = bench.deps;
const { organizationId } = bench;
let projectId: string;
beforeEach(async () => {
  await sql`truncate cache_path, nar, evaluation, build, cache_usage, lost_path, discarded_object cascade`.execute(db);
  await sql`delete from retention_sweep`.execute(db);
  await sql`update cache set max_storage_gb = 0`.execute(db);
  projectId = await insertProjectRow(db, { organizationId, name: `site-${newId()}` });
});

/** An evaluation with these entry points; a number is the state that their build came to. */
async function evaluation(
  entryPoints: Readonly<Record<string, number>>,
  { status = 5, trusted = true, kind = 0 } = {},
): Promise<{ readonly id: string; readonly builds: Readonly<Record<string, string>> }> {
  const id = await insertEvaluationRow(db, { organizationId, projectId, status });
  const at = sql<Date>`gradient_now()`;
  await db
    .updateTable("evaluation")
    .set({ trusted, kind, building_started_at: at, ...(status >= 5 && status <= 7 && { finished_at: at }) })
    .where("id", "=", id)
    .execute();
  const builds: Record<string, string> = {};
  for (const [attribute, state] of Object.entries(entryPoints)) {
    const build = await insertBuild(db, { organizationId, name: attribute, status: state });
    await sql`update build set updated_at = gradient_now() - interval '3 days' where id = ${build}`.execute(db);
    await linkBuild(db, id, build, status >= 5 && status <= 7 ? { outcome: state } : {});
    await db
      .insertInto("entry_point")
      .values({ id: newId(), evaluation_id: id, attribute: [attribute], build_id: build })
      .execute();
    builds[attribute] = build;
  }
  return { id, builds };
}

async function evaluations(): Promise<string[]> {
  return (await db.selectFrom("evaluation").select("id").orderBy("ordinal").execute()).map(({ id }) => id);
}

async function builds(): Promise<Set<string>> {
  return new Set((await db.selectFrom("build").select("id").execute()).map(({ id }) => id));
}

const latest = async () =>
  Object.fromEntries(
    (await listLatestSuccesses(db, projectId, { attribute: null, limit: 100 })).map((row) => [
      row.attribute.join("."),
      row.evaluation_id,
    ]),
  );

test("a project keeps as many ended evaluations as it says, and the server's bound where that is lower", async () => {
  await db.updateTable("project").set({ keep_evaluations: 3 }).where("id", "=", projectId).execute();
  const ids = [];
  for (let n = 0; n < 5; n++) ids.push((await evaluation({ app: 3 })).id);
  const going = (await evaluation({ app: 0 }, { status: 3 })).id;

  await bench.sweep({ keepEvaluations: 0 });
  expect(await evaluations(), "one that goes on is not counted").toEqual([...ids.slice(2), going]);

  await bench.sweep({ keepEvaluations: 2 });
  expect(await evaluations()).toEqual([...ids.slice(3), going]);
});

test("builds that no evaluation links go after their grace, and those that something kept needs stay", async () => {
  await db.updateTable("project").set({ keep_evaluations: 1 }).where("id", "=", projectId).execute();
  const old = await evaluation({ app: 3 });
  const kept = await evaluation({ app: 3 });
  const insert = async (name: string, needs: string[] = []) => {
    const id = await insertBuild(db, { organizationId, name, status: 3, needs });
    await sql`update build set updated_at = gradient_now() - interval '3 days' where id = ${id}`.execute(db);
    return id;
  };
  const deep = await insert("deep");
  const lib = await insert("lib", [deep]);
  const shared = await insert("shared");
  const edge = (build_id: string | undefined, dependency_id: string) =>
    db
      .insertInto("build_edge")
      .values({ build_id: build_id as string, dependency_id, outputs: ["out"] })
      .execute();
  await edge(old.builds.app, lib);
  await edge(old.builds.app, shared);
  await edge(kept.builds.app, shared);
  const young = await insertBuild(db, { organizationId, name: "young", status: 3 });
  const open = await insertBuild(db, { organizationId, name: "open", status: 1 });

  expect(await bench.sweep()).toMatchObject({ evaluations: 1, builds: 3 });
  expect(await builds()).toEqual(new Set([kept.builds.app, shared, young, open]));
});

test("the last success of an entry point, and that alone, outlasts newer evaluations that fail or go on", async () => {
  await db.updateTable("project").set({ keep_evaluations: 2 }).where("id", "=", projectId).execute();
  const good = await evaluation({ app: 3, tool: 3, broken: 4 });
  const other = await insertBuild(db, { organizationId, name: "dependency", status: 3 });
  await linkBuild(db, good.id, other, { outcome: 3 });
  for (let n = 0; n < 3; n++) await evaluation({ app: 4, tool: 3 }, { status: 6 });
  await evaluation({ app: 2, tool: 2 }, { status: 3 });

  await bench.sweep();

  expect(await evaluations()).toHaveLength(4);
  expect((await latest()).app).toBe(good.id);
  const links = await db
    .selectFrom("evaluation_build")
    .select("build_id")
    .where("evaluation_id", "=", good.id)
    .execute();
  expect(links.map(({ build_id }) => build_id)).toEqual([good.builds.app]);
  const { message } = await db
    .selectFrom("evaluation_message")
    .select("message")
    .where("evaluation_id", "=", good.id)
    .executeTakeFirstOrThrow();
  expect(message).toContain("only its latest successful builds are kept");

  const again = await evaluation({ app: 3, tool: 3 });
  await bench.sweep();
  expect(await evaluations(), "it was built again").not.toContain(good.id);
  expect((await latest()).app).toBe(again.id);
});

test("an entry point that newer evaluations have not is not kept, unless they could not say", async () => {
  await db.updateTable("project").set({ keep_evaluations: 2 }).where("id", "=", projectId).execute();
  const good = await evaluation({ app: 3, gone: 3, untold: 3 });
  const failing = async (id: string, attribute: string) =>
    await sql`
      insert into evaluation_message (id, evaluation_id, level, message, source, attribute)
      values (${newId()}, ${id}, 0, 'does not evaluate', 'eval', array[${attribute}])`.execute(db);
  for (let n = 0; n < 3; n++) await failing((await evaluation({ app: 3 })).id, "untold");
  // Of a pull request that anybody may send: it does not say what the project has.
  await evaluation({}, { trusted: false });

  await bench.sweep();

  expect(await latest()).toMatchObject({ untold: good.id });
  expect(Object.keys(await latest())).toEqual(["app", "untold"]);
});

test("what was built of an untrusted change is not what the latest build means", async () => {
  await db.updateTable("project").set({ keep_evaluations: 1 }).where("id", "=", projectId).execute();
  const good = await evaluation({ app: 3 });
  await evaluation({ app: 3 }, { trusted: false });

  await bench.sweep();

  expect(await latest()).toEqual({ app: good.id });
});

test("evaluations that did not get as far as to say what there is take nothing away", async () => {
  await db.updateTable("project").set({ keep_evaluations: 2 }).where("id", "=", projectId).execute();
  const good = await evaluation({ app: 3 });
  for (let n = 0; n < 4; n++) {
    const { id } = await evaluation({}, { status: 6 });
    await sql`update evaluation set building_started_at = null where id = ${id}`.execute(db);
  }

  await bench.sweep();

  expect(await evaluations()).toContain(good.id);
  expect(await latest()).toEqual({ app: good.id });
});

test("a recovery is not counted, and goes with the evaluation that it recovered", async () => {
  await db.updateTable("project").set({ keep_evaluations: 1 }).where("id", "=", projectId).execute();
  const old = await evaluation({ app: 3 });
  const recovery = await evaluation({ app: 3 }, { kind: 2 });
  await sql`update evaluation set recovers_id = ${old.id} where id = ${recovery.id}`.execute(db);
  await bench.sweep();
  expect(await evaluations()).toEqual([old.id, recovery.id]);

  const newer = await evaluation({ app: 3 });
  await bench.sweep();
  await bench.sweep();
  expect(await evaluations()).toEqual([newer.id]);
});

test("the log of a build goes with the build, from the storage too", async () => {
  const { builds: of } = await evaluation({ app: 4 });
  const attemptId = await insertAttempt(db, { organizationId, buildId: of.app as string });
  const key = `log/${attemptId}/${newId()}`;
  await blobs.put(key, streamOf(new Uint8Array(10)));
  await sql`
    insert into sealed_log (attempt_id, object_key, bytes, lines, file_bytes, frame_bytes, frames, chunks)
    values (${attemptId}, ${key}, 10, 1, 10, 10, '[]', '[]')`.execute(db);
  await sql`update attempt set finished_at = gradient_now(), outcome = 3 where id = ${attemptId}`.execute(db);
  await sql`delete from evaluation`.execute(db);

  await bench.sweep();
  await deleteDiscardedObjects(bench.retentionDeps(), { restMs: 0 });

  expect(await builds()).toEqual(new Set());
  expect(await blobs.head(key)).toBeNull();
});

test("objects that no row names go after their grace, and what is named or young stays", async () => {
  const named = await bench.add("named");
  const orphan = `nar/${"a".repeat(52)}/${newId()}`;
  await blobs.put(orphan, streamOf(new Uint8Array(3)));
  const deps = bench.retentionDeps();
  expect(await sweepStorage(deps, NEVER)).toMatchObject({ orphans: 0 });

  const later = { ...deps, clock: { ...deps.clock, now: () => Date.now() + 25 * 3_600_000 } };
  expect(await sweepStorage(later, NEVER)).toMatchObject({ orphans: expect.any(Number) });
  await deleteDiscardedObjects(deps, { restMs: 0 });

  expect(await blobs.head(orphan)).toBeNull();
  expect(await blobs.head(named.nar.objectKey)).not.toBeNull();
});

test("a database that knows next to nothing of a storage deletes nothing of it, unless it is told to", async () => {
  const keys = Array.from({ length: 1_100 }, (_, n) => `nar/${"b".repeat(52)}/${n}`);
  const listed = keys.map((key) => ({ key, size: 1, storedAt: new Date(0) }));
  const strange = {
    ...blobs,
    list: async (prefix: string) => ({ objects: prefix === "nar/" ? listed : [], next: null }),
  };
  const deps = { ...bench.retentionDeps(), blobs: strange };

  expect(await sweepStorage(deps, NEVER)).toMatchObject({ objects: 1_100, orphans: 0 });
  expect(bench.logged.join("\n")).toContain("is it the right one?");
  expect(await sweepStorage(deps, NEVER, { force: true })).toMatchObject({ orphans: 1_100 });
});

test("what a cache holds is counted by whatever changes it, and evaluations wait by that count", async () => {
  const usage = async () => (await listCacheUsage(db)).find(({ cache_id }) => cache_id === bench.cache.id);
  const content = crypto.getRandomValues(new Uint8Array(1_000));
  const one = await bench.add("one", { content });
  await bench.add("two");
  const { rows } = await sql<{ bytes: number }>`select sum(file_size)::float8 as bytes from nar`.execute(db);
  expect(await usage()).toMatchObject({ paths: 2, bytes: rows[0]?.bytes });

  await sql`update nar set file_size = 2000000000 where nar_hash = ${one.narHash.digest}`.execute(db);
  await sql`update cache set max_storage_gb = 1 where id = ${bench.cache.id}`.execute(db);
  expect(await findCacheObstacle(db, organizationId)).toBe("cache_storage_full");

  await sql`update cache_path set nar_hash = (select nar_hash from nar where file_size < 2000000000)`.execute(db);
  expect(await findCacheObstacle(db, organizationId)).toBeNull();
  expect(await mendCacheUsage(db, bench.cache.id)).toBe(0);

  for (let n = 0; n < 120; n++)
    await sql`insert into cache_usage (cache_id, paths, bytes) values (${bench.cache.id}, 1, 1)`.execute(db);
  await tidyRetention(bench.retentionDeps(), NEVER);
  expect(await db.selectFrom("cache_usage").selectAll().where("cache_id", "=", bench.cache.id).execute()).toHaveLength(
    1,
  );
  expect(await mendCacheUsage(db, bench.cache.id)).toBe(-120);
  await sql`delete from cache_path`.execute(db);
  expect(await usage()).toMatchObject({ paths: 0, bytes: 0 });
});

test("a cache that is nearly full is swept at once, and again only when it has grown", async () => {
  await bench.add("old", { days: 2 });
  await sql`update nar set file_size = 980000000`.execute(db);
  await sql`update cache set max_storage_gb = 1 where id = ${bench.cache.id}`.execute(db);
  const tried = new Map<string, number>();
  expect(await sweepFullCaches(bench.retentionDeps(), NEVER, tried)).toBe(1);

  await buildOf(bench, (await bench.add("kept", { days: 2 })).storePath);
  await sql`update nar set file_size = 980000000`.execute(db);
  expect(await sweepFullCaches(bench.retentionDeps(), NEVER, tried)).toBe(0);
  await bench.add("small", { days: 2 });
  expect(await sweepFullCaches(bench.retentionDeps(), NEVER, tried), "it was in vain, and little has come").toBe(0);
  await sql`insert into cache_usage (cache_id, paths, bytes) values (${bench.cache.id}, 0, 20e6)`.execute(db);
  expect(await sweepFullCaches(bench.retentionDeps(), NEVER, tried)).toBe(1);
});

test("outputs that a deletion took from under builds are lost, and what waits for them is told", async () => {
  const output = await storeFile(bench, "output");
  await bench.commit([bench.cache.id], [output]);
  const { buildId } = await buildOf(bench, output.storePath);
  const above = await insertBuild(db, { organizationId, name: "above", status: 1, needs: [buildId] });
  await sql`update build_edge set satisfied = true`.execute(db);

  await sql`delete from cache_path`.execute(db);
  const deps = { ...bench.deps, retry: { attemptsMax: 3, backoffMs: 0 }, leaseMs: 60_000 };
  await loseSuspects(deps as never);

  const states = await db.selectFrom("build").select(["id", "status"]).execute();
  expect(Object.fromEntries(states.map(({ id, status }) => [id, status]))).toEqual({ [buildId]: 1, [above]: 0 });
  expect(await db.selectFrom("lost_path").selectAll().execute()).toEqual([]);
});

test("a superuser has it all done at once, and gets a report", async () => {
  await bench.add("old");
  const recorded: object[] = [];
  const run = deepSweepTask(bench.retentionDeps());
  const record = async (progress: object) => recorded.push(progress) > 0;

  const report = await run({ parameters: { force: false }, progress: null, signal: NEVER, record });

  expect(report).toMatchObject({ paths: 1, nars: 1, orphans: 0, deleted_objects: 0 });
  expect(recorded).toHaveLength(1);
});
