import { sql } from "kysely";
import { afterAll, beforeEach, expect, test } from "vitest";
import { sumDoomed } from "#core/db/retention-marks.ts";
import { readRootScope } from "#core/db/retention-roots.ts";
import { HOUR } from "#core/lib/clock.ts";
import { deleteDiscardedObjects } from "#core/services/retention-objects.ts";
import { markCache } from "#core/services/retention-paths.ts";
import { insertBuild, linkBuild } from "#test/support/rows.ts";
import { newId, storeFile } from "../cache/support.ts";
import { age, buildOf, type RetentionBench, withRetentionBench } from "./support.ts";

const bench: RetentionBench = await withRetentionBench();
afterAll(() => bench[Symbol.asyncDispose]());
const { db } = bench.deps;
beforeEach(async () => {
  await sql`
    truncate cache_path, nar, evaluation, build, cache_pin, cache_usage, lost_path, discarded_object cascade`.execute(
    db,
  );
  await sql`update cache set max_storage_gb = 0`.execute(db);
});

test("a path that nobody used for longer than the TTL goes, and one that was used stays", async () => {
  await bench.add("old", { days: 15 });
  await bench.add("used", { days: 13 });

  expect(await bench.sweep()).toMatchObject({ paths: 1, nars: 1 });
  expect(await bench.names()).toEqual(["used"]);
});

test("0 hours mean that nothing goes for lack of use", async () => {
  await bench.add("old", { days: 4_000 });

  expect(await bench.sweep({ unusedMs: 0 })).toMatchObject({ paths: 0, nars: 0 });
});

test("what a used path refers to stays, however far below, and with it the whole closure", async () => {
  const bottom = await bench.add("bottom");
  const middle = await bench.add("middle", { references: [bottom.storePath] });
  await bench.add("top", { references: [middle.storePath, bottom.storePath], days: 1 });
  await bench.add("other", { references: [bottom.storePath] });

  await bench.sweep();

  expect(await bench.names()).toEqual(["bottom", "middle", "top"]);
});

test("a closure that nobody uses goes whole", async () => {
  const bottom = await bench.add("bottom");
  const middle = await bench.add("middle", { references: [bottom.storePath] });
  await bench.add("top", { references: [middle.storePath, bottom.storePath] });

  expect(await bench.sweep()).toMatchObject({ paths: 3, nars: 3 });
  expect(await bench.names()).toEqual([]);
});

test("outputs of builds that an evaluation links stay with their closures, in caches of its organization", async () => {
  const lib = await bench.add("lib");
  const app = await bench.add("app", { references: [lib.storePath] });
  const foreign = await bench.makeCache();
  await bench.commit([foreign.id], [lib, app]);
  await age(bench, lib.storePath, 30);
  await age(bench, app.storePath, 30);
  await buildOf(bench, app.storePath);

  await bench.sweep();

  expect(await bench.names()).toEqual(["app", "lib"]);
  expect(await bench.names(foreign.id), "somebody else's evaluations keep nothing here").toEqual([]);
});

test("what an open build needs stays, though no evaluation links what made it", async () => {
  const input = await bench.add("input");
  const source = await bench.add("source");
  const { buildId: made } = await buildOf(bench, input.storePath);
  await sql`delete from evaluation_build`.execute(db);
  const open = await insertBuild(db, { organizationId: bench.organizationId, name: "open", status: 1, needs: [made] });
  await sql`insert into build_source (build_id, store_path) values (${open}, ${source.storePath.slice(11)})`.execute(
    db,
  );

  await bench.sweep();
  expect(await bench.names()).toEqual(["input", "source"]);

  await sql`update build set status = 3, updated_at = gradient_now() - interval '2 days'`.execute(db);
  await bench.sweep();
  expect(await bench.names()).toEqual([]);
});

test("sources of a failed build stay while an evaluation shows it: it may be started again", async () => {
  const source = await bench.add("source");
  const output = await bench.add("output");
  const { buildId } = await buildOf(bench, output.storePath, { status: 4 });
  await sql`insert into build_source (build_id, store_path) values (${buildId}, ${source.storePath.slice(11)})`.execute(
    db,
  );

  await bench.sweep();

  expect(await bench.names()).toEqual(["output", "source"]);
});

test("the fetched source of an evaluation that goes on stays", async () => {
  const source = await bench.add("source");
  const other = await bench.add("other");
  const { evaluationId } = await buildOf(bench, other.storePath, { status: 1, evaluationStatus: 2 });
  const fetched = JSON.stringify({ reference: "path:x", wrapped: false, paths: [source.storePath] });
  await sql`update evaluation set source = ${fetched}::jsonb where id = ${evaluationId}`.execute(db);

  await bench.sweep();

  expect(await bench.names()).toEqual(["other", "source"]);
});

test("a path that came within the hour stays, even in a cache that has no room", async () => {
  await bench.add("fresh", { days: 0 });
  await bench.add("stale", { days: 1 });
  await sql`update cache set max_storage_gb = 1 where id = ${bench.cache.id}`.execute(db);
  await sql`insert into cache_usage (cache_id, paths, bytes) values (${bench.cache.id}, 0, 2e9)`.execute(db);

  await bench.sweep({ unusedMs: 0 });

  expect(await bench.names()).toEqual(["fresh"]);
});

test("a nearly full cache lets go of what was used least lately, whole closures, no more than it must", async () => {
  const lib = await bench.add("lib", { days: 9 });
  await bench.add("first", { days: 5, references: [lib.storePath] });
  await bench.add("second", { days: 4 });
  await bench.add("third", { days: 3 });
  await buildOf(bench, (await bench.add("kept", { days: 8 })).storePath);
  await sql`update nar set file_size = 20000000`.execute(db);
  await sql`update cache set max_storage_gb = 1 where id = ${bench.cache.id}`.execute(db);
  const hold = (bytes: number) =>
    sql`insert into cache_usage (cache_id, paths, bytes) values (${bench.cache.id}, 0, ${bytes})`.execute(db);
  await hold(850e6);
  expect(await bench.sweep({ unusedMs: 0 }), "950 MB of 1 GB are not nearly full").toMatchObject({ paths: 0 });

  await hold(10e6);

  expect(await bench.sweep({ unusedMs: 0 })).toMatchObject({ paths: 3, path_bytes: 60e6 });
  expect(await bench.names()).toEqual(["kept", "third"]);
});

test("what is served from one NAR is counted once: it goes with the last path of the last cache", async () => {
  const other = await bench.makeCache();
  const content = crypto.getRandomValues(new Uint8Array(100));
  await bench.add("one", { content });
  const two = await bench.add("two", { content, cacheIds: [bench.cache.id, other.id] });
  await buildOf(bench, two.storePath);

  expect(await bench.sweep()).toMatchObject({ paths: 2, nars: 0 });
  expect(await bench.names()).toEqual(["two"]);

  await sql`truncate evaluation cascade`.execute(db);
  expect(await bench.sweep()).toMatchObject({ paths: 1, nars: 1 });
});

test("a NAR that no path names yet stays for its grace, and for another when it is sent again", async () => {
  const path = await bench.add("path");
  await sql`delete from cache_path`.execute(db);
  await sql`update nar set claimed_at = gradient_now() - interval '25 hours'`.execute(db);
  const content = new TextEncoder().encode("again");
  await bench.add("again", { content });
  await sql`delete from cache_path`.execute(db);
  await sql`update nar set claimed_at = gradient_now() - interval '25 hours'`.execute(db);
  await storeFile(bench, "again", { content });

  expect(await bench.sweep()).toMatchObject({ nars: 1 });
  const left = await db.selectFrom("nar").select("nar_hash").execute();
  expect(left).toHaveLength(1);
  expect(left[0]?.nar_hash).not.toEqual(path.narHash.digest);
});

test("files go after their rows, when downloads that had begun are over", async () => {
  await bench.add("old");
  const before = (await bench.objectFiles()).length;
  await bench.sweep();
  const deps = bench.retentionDeps();

  expect(await deleteDiscardedObjects(deps)).toMatchObject({ objects: 0 });
  expect(await bench.objectFiles()).toHaveLength(before);
  expect((await deleteDiscardedObjects(deps, { restMs: 0 })).objects).toBeGreaterThan(0);
  expect(await bench.objectFiles()).toHaveLength(before - 1);
});

test("a path that only a cache refers to which has this one as its upstream stays", async () => {
  const resting = await bench.makeCache();
  await sql`
    insert into cache_upstream (id, cache_id, kind, display_name, public_keys, upstream_cache_id)
    values (gen_random_uuid(), ${resting.id}, 0, 'upstream', '{}', ${bench.cache.id})`.execute(db);
  const lib = await bench.add("lib");
  const app = await bench.add("app", { days: 1, references: [lib.storePath] });
  await sql`update cache_path set cache_id = ${resting.id} where store_path = ${app.storePath.slice(11)}`.execute(db);

  const mark = { id: newId(), scope: await readRootScope(db, bench.cache.id) };
  await markCache(db, mark, { unusedMs: 1, freeBytes: 0 });
  expect(await sumDoomed(db, mark)).toMatchObject({ paths: 0 });
  await bench.sweep();
  expect(await bench.names()).toEqual(["lib"]);

  await sql`delete from cache_upstream`.execute(db);
  await bench.sweep();
  expect(await bench.names()).toEqual([]);
});

test("a path that is gone and counted as available becomes a loss", async () => {
  const output = await bench.add("output");
  const { buildId } = await buildOf(bench, output.storePath);
  const above = await insertBuild(db, {
    organizationId: bench.organizationId,
    name: "above",
    status: 3,
    needs: [buildId],
  });
  await linkBuild(db, (await buildOf(bench, output.storePath)).evaluationId, above, { outcome: 3 });
  await sql`delete from evaluation_build where build_id <> ${above}`.execute(db);
  await sql`update evaluation_build set outcome = 3`.execute(db);

  await bench.sweep({ orphanBuildMs: 24 * HOUR });

  expect(await bench.names()).toEqual([]);
  const lost = await db.selectFrom("lost_path").select("store_path").execute();
  expect(lost).toEqual([{ store_path: output.storePath.slice(11) }]);
});
