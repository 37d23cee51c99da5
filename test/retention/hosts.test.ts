import { sql } from "kysely";
import { afterAll, beforeEach, expect, test } from "vitest";
import { HOST_PATH_ROLE } from "#core/db/hosts.ts";
import type { Actor } from "#core/domain/actor.ts";
import { ORGANIZATION_ROLE } from "#core/domain/permissions.ts";
import { DAY } from "#core/lib/clock.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { reportDeployment } from "#core/services/hosts-report.ts";
import { flushOwnUses } from "#core/services/uses-flush.ts";
import {
  insertBuild,
  insertEntryPoint,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
  newId,
} from "#test/support/rows.ts";
import { type RetentionBench, withRetentionBench } from "./support.ts";

const bench: RetentionBench = await withRetentionBench();
afterAll(() => bench[Symbol.asyncDispose]());
const { db } = bench.deps;
const { projectId, organizationId } = bench;
beforeEach(async () => {
  await sql`truncate cache_path, nar, evaluation, build, cache_usage, lost_path, server, host cascade`.execute(db);
  await sql`update project set default_branch = 'main', keep_evaluations = 1 where id = ${projectId}`.execute(db);
});

async function insertHost(paths: Readonly<Record<number, StorePath>>, keptForMs = DAY): Promise<string> {
  const id = newId();
  await sql`
    insert into host (id, project_id, name, kept_until)
    values (${id}, ${projectId}, ${`web-${id}`}, gradient_now() + ${keptForMs} * interval '1 millisecond')`.execute(db);
  for (const [role, path] of Object.entries(paths)) {
    const row = { host_id: id, role: Number(role), store_path: path.slice("/nix/store/".length) };
    await db.insertInto("host_path").values(row).execute();
  }
  return id;
}

test("what a host runs, was started from, is to get and could go back to stays whole", async () => {
  const lib = await bench.add("lib");
  const running = await bench.add("running", { references: [lib.storePath] });
  const booted = await bench.add("booted");
  const back = await bench.add("back");
  const wanted = await bench.add("wanted");
  await bench.add("other");
  await insertHost({
    [HOST_PATH_ROLE.running]: running.storePath,
    [HOST_PATH_ROLE.booted]: booted.storePath,
    [HOST_PATH_ROLE.rollback]: back.storePath,
    [HOST_PATH_ROLE.wanted]: wanted.storePath,
  });
  await bench.sweep();
  expect(await bench.names()).toEqual(["back", "booted", "lib", "running", "wanted"]);
});

test("a host that was not heard of for long enough keeps nothing, and one that is forgotten neither", async () => {
  const silent = await bench.add("silent");
  const forgotten = await bench.add("forgotten");
  await insertHost({ [HOST_PATH_ROLE.running]: silent.storePath }, -1);
  const id = await insertHost({ [HOST_PATH_ROLE.running]: forgotten.storePath });
  await bench.sweep();
  expect(await bench.names()).toEqual(["forgotten"]);
  await db.deleteFrom("host").where("id", "=", id).execute();
  await bench.sweep();
  expect(await bench.names()).toEqual([]);
});

test("a host keeps nothing of a cache that its organization may only read, but for its own builds", async () => {
  const other = await bench.makeOrganization();
  const own = await bench.makeCache();
  await bench.subscribe(other, own.id, 0);
  const upstream = { id: newId(), cache_id: own.id, upstream_cache_id: bench.cache.id, kind: 0, display_name: "x" };
  await db
    .insertInto("cache_upstream")
    .values({ ...upstream, mode: 1, public_keys: "{}" } as never)
    .execute();
  const made = await bench.add("made");
  await bench.add("wished");
  await bench.add("wished-of-own", { cacheIds: [bench.cache.id, own.id] });
  const build = await insertBuild(db, { organizationId: other, name: "made", status: 3 });
  const storePath = made.storePath.slice(11);
  await db.updateTable("build_output").set({ store_path: storePath }).where("build_id", "=", build).execute();
  const project = await insertProjectRow(db, { organizationId: other });
  const host = newId();
  await sql`
    insert into host (id, project_id, name, kept_until)
    values (${host}, ${project}, 'web', gradient_now() + interval '1 day')`.execute(db);
  const paths = await db.selectFrom("cache_path").select("store_path").distinct().execute();
  for (const { store_path } of paths) {
    await db.insertInto("host_path").values({ host_id: host, role: HOST_PATH_ROLE.rollback, store_path }).execute();
  }
  await bench.sweep();
  expect([await bench.names(), await bench.names(own.id)]).toEqual([["made"], ["wished-of-own"]]);

  // A subscription is what both sides have agreed to.
  const agreed = await bench.add("agreed");
  const row = { host_id: host, role: HOST_PATH_ROLE.running, store_path: agreed.storePath.slice(11) };
  await db.insertInto("host_path").values(row).execute();
  await bench.subscribe(other, bench.cache.id, 1);
  await bench.sweep();
  expect(await bench.names()).toEqual(["agreed", "made"]);
});

/** An ended evaluation with the system of a host. */
async function build(branch: string | null, outcome: number, host = "web"): Promise<string> {
  const id = await insertEvaluationRow(db, { organizationId, projectId, status: 5 });
  const now = sql<Date>`gradient_now()`;
  const values = { branch, deploys: branch !== null, building_started_at: now, finished_at: now };
  await db.updateTable("evaluation").set(values).where("id", "=", id).execute();
  const buildId = await insertBuild(db, { organizationId, name: host, status: outcome });
  await linkBuild(db, id, buildId, { outcome });
  await insertEntryPoint(db, id, buildId, ["nixosConfigurations", host]);
  return id;
}
const evaluations = async () =>
  (await db.selectFrom("evaluation").select("id").orderBy("ordinal").execute()).map(({ id }) => id);

test("what hosts are to run stays, whatever other branches built since, until it was built again", async () => {
  const wanted = await build("main", 3);
  await build("main", 4);
  await build("feature", 3);
  const newest = await build(null, 3);
  await bench.sweep();
  expect(await evaluations()).toEqual([wanted, newest]);
  const again = await build("main", 3);
  await bench.sweep();
  expect(await evaluations()).toEqual([again]);
  const without = await build("main", 3, "db");
  await bench.sweep();
  expect(await evaluations(), "the branch has no such host any more").toEqual([without]);
});

test("a path that a host told of after a sweep had doomed it stays", async () => {
  const path = await bench.add("running");
  await bench.add("other");
  const actor = await insertMember();
  await build("main", 3);
  const serverId = newId();
  await sql`insert into server (id, last_seen_at) values (${serverId}, gradient_now())`.execute(db);
  const swept = bench.sweep();
  await expect
    .poll(async () => (await db.selectFrom("retention_step").select("subject").execute()).length, {
      timeout: 20_000,
      interval: 10,
    })
    .toBe(2);
  const answer = await tell(actor, path.storePath);
  expect(answer).toEqual({ accepted: true });
  await flushOwnUses({ db, uses: { flush: async () => {} } }, serverId);
  await swept;
  expect(await bench.names()).toEqual(["running"]);
});

test("a path that a host is telling of at this moment is passed over by a sweep", async () => {
  const path = await bench.add("running");
  await bench.add("other");
  const actor = await insertMember();
  const id = await insertHost({});
  await db.updateTable("host").set({ name: "web" }).where("id", "=", id).execute();
  const told = await db.transaction().execute(async (trx) => {
    await trx.selectFrom("host").select("id").where("id", "=", id).forUpdate().execute();
    const answer = tell(actor, path.storePath);
    const waiting = sql<{ count: number }>`
      select count(*)::int as count from pg_locks l join pg_stat_activity a on a.pid = l.pid
      where not l.granted and a.datname = current_database()`;
    await expect
      .poll(async () => (await waiting.execute(db)).rows[0]?.count, { timeout: 20_000, interval: 10 })
      .toBe(1);
    await bench.sweep();
    return { answer };
  });
  expect(await told.answer).toEqual({ accepted: true });
  expect(await bench.names()).toEqual(["running"]);
});

/** The host `web` says that it runs this. */
async function tell(actor: Actor, running_path: StorePath) {
  const names = await db
    .selectFrom("project")
    .innerJoin("organization", "organization.id", "project.organization_id")
    .select(["project.name as project", "organization.name as organization"])
    .where("project.id", "=", projectId)
    .executeTakeFirstOrThrow();
  return await reportDeployment(
    bench.retentionDeps(),
    actor,
    { ...names, host: "web" },
    {
      run_id: newId(),
      sequence: 0,
      happened_at: new Date().toISOString(),
      step: "unchanged",
      mode: "switch",
      health: "healthy",
      reason: null,
      failed_units: [],
      exit_code: null,
      build_id: null,
      store_path: null,
      booted_path: null,
      generation: null,
      agent_version: "",
      running_path,
    },
  );
}

async function insertMember(): Promise<Actor> {
  const id = newId();
  const username = `u${id}`;
  await sql`
    insert into user_account (id, username, name, email)
    values (${id}, ${username}, 'U', ${`${id}@example.com`})`.execute(db);
  const member = { organization_id: organizationId, user_id: id, role_id: ORGANIZATION_ROLE.Write };
  await db.insertInto("organization_member").values(member).execute();
  return { user: { id, username, superuser: false }, key: null, sessionId: null };
}
