import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { setDraining } from "#core/db/scheduler-state.ts";
import type { FreeWorker } from "#core/domain/scheduling/choose.ts";
import { uuidV4 } from "#core/lib/ids.ts";
import { dispatchBuilds, UNANSWERED_GRACE_MS } from "#core/services/transitions/dispatch.ts";
import { InputOrigins } from "#core/services/transitions/input-origins.ts";
import { insertOrganization } from "../support/rows.ts";
import { drvPathOf, nameOf, node, SYSTEM } from "./nodes.ts";
import {
  checkInvariants,
  claim,
  claimOne,
  dispatchDeps,
  evaluate,
  fail,
  passTime,
  succeed,
  type World,
  withWorld,
} from "./support.ts";

let world: World;
beforeEach(async () => {
  world = await withWorld();
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

function worker(places: number, rest: Partial<FreeWorker> = {}): FreeWorker {
  const workerId = rest.workerId ?? uuidV4();
  return {
    workerId,
    key: workerId,
    draining: false,
    grants: [{ organizationId: world.organizationId, fetch: true, eval: true, build: true }],
    groups: [{ architectures: [SYSTEM], systemFeatures: [], places }],
    placesAll: [places],
    placesIdle: [places],
    evaluationPlaces: 0,
    freeMemoryMb: null,
    ...rest,
  };
}

async function dispatch(...workers: readonly FreeWorker[]) {
  const { assigned, chosen } = await dispatchBuilds(dispatchDeps(world), workers, new InputOrigins());
  return { assigned, chosen, names: assigned.map(({ drv_path }) => nameOf(drv_path)).sort() };
}

/** Ready builds that no evaluation made: many at once. */
async function insertReady(count: number, columns: Readonly<Record<string, string>> = {}): Promise<void> {
  const extra = Object.entries(columns);
  await sql`
    with made as (
      insert into build (id, organization_id, drv_path, name, system, status, ready_at
        ${sql.raw(extra.map(([name]) => `, ${name}`).join(""))})
      select gen_random_uuid(), ${world.organizationId}, gen_random_uuid() || '-x.drv', 'x', ${SYSTEM}, 1,
        gradient_now() - interval '1 hour' ${sql.raw(extra.map(([, value]) => `, ${value}`).join(""))}
      from generate_series(1, ${count}::int) returning id)
    insert into build_derivation (build_id, aterm) select id, '' from made`.execute(world.db);
}

test("one pass fills every free place of every worker, and no build goes to two", async () => {
  await evaluate(
    world,
    Array.from({ length: 20 }, (_, i) => node(`n${i}`)),
  );
  const { assigned } = await dispatch(worker(7), worker(5), worker(4));
  expect(assigned).toHaveLength(16);
  expect(new Set(assigned.map(({ id }) => id)).size).toBe(16);
  const byWorker = Map.groupBy(assigned, ({ workerId }) => workerId);
  expect([...byWorker.values()].map((list) => list.length).sort()).toEqual([4, 5, 7]);
  await checkInvariants(world.db);
});

test("builds that no worker can run hide nothing, however many and however old they are", async () => {
  await insertReady(2_000, { required_features: "'{kvm}'" });
  await insertReady(2_000, { priority: "10", required_features: "'{gpu}'" });
  await evaluate(world, [node("plain")]);
  expect((await dispatch(worker(8))).names).toEqual(["plain"]);
});

test("an organization with few builds is served beside one with many", async () => {
  await insertReady(3_000);
  await evaluate(world, [node("theirs")]);
  const other = await insertOrganization(world.db, { name: "other" });
  await sql`update build set organization_id = ${other}, ready_at = gradient_now() where name = 'theirs'`.execute(
    world.db,
  );
  const grants = [world.organizationId, other].map((organizationId) => ({
    organizationId,
    fetch: true,
    eval: true,
    build: true,
  }));
  expect((await dispatch(worker(4, { grants }))).names).toContain("theirs");
});

test("what was put first goes first, and the longest ready next", async () => {
  await evaluate(world, [node("a"), node("b"), node("c"), node("d")]);
  await sql`update build set ready_at = gradient_now() - interval '1 minute' where name = 'c'`.execute(world.db);
  await sql`update build set priority = 3 where name = 'd'`.execute(world.db);
  expect((await dispatch(worker(1))).names).toEqual(["d"]);
  expect((await dispatch(worker(1))).names).toEqual(["c"]);
});

test("an attempt keeps the points that its worker was chosen by, and they add up", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["a"] })]);
  const build = await claimOne(world, "a");
  const { score } = await world.db
    .selectFrom("attempt")
    .select("score")
    .where("id", "=", build.attemptId)
    .executeTakeFirstOrThrow();
  const { total, rules, job, instance } = score as NonNullable<typeof score>;
  expect(rules).toMatchObject({ dependents: 8, priority: 1_000 });
  expect(total).toBeCloseTo(Object.values(rules).reduce((sum, points) => sum + points, 0));
  expect(job).toMatchObject({ dependents: 2, priority: 1 });
  expect(instance).toMatchObject({ candidates: 1, workers: 1 });
});

test("a build goes to the worker that made its inputs, and a failed one to another than it failed on", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  const [first, second] = [worker(4), worker(4)];
  const [a] = (await dispatch(first)).assigned;
  await succeed(world, a as NonNullable<typeof a>);
  const [b] = (await dispatch(second, first)).assigned;
  expect(b?.workerId).toBe(first.workerId);
  await fail(world, b as NonNullable<typeof b>, "transient");
  await passTime(world);
  await sql`update build set status = 1, ready_at = gradient_now(), retry_at = null where status = 8`.execute(world.db);
  expect((await dispatch(first, second)).assigned[0]?.workerId).toBe(second.workerId);
});

test("what a worker was given as an input counts as being there for the next build", async () => {
  await evaluate(world, [node("lib"), ...["a", "b", "c"].map((name) => node(name, { needs: ["lib"] }))]);
  const [maker, user, third] = [worker(0), worker(4), worker(4)];
  const inputs = new InputOrigins();
  const next = async (...workers: readonly FreeWorker[]) =>
    (await dispatchBuilds(dispatchDeps(world), workers, inputs)).assigned;
  const [lib] = await next(worker(1, { workerId: maker.workerId }));
  await succeed(world, lib as NonNullable<typeof lib>);
  await next(worker(1, { workerId: user.workerId }));
  expect((await next(third, user)).map(({ workerId }) => workerId)).toContain(user.workerId);
  expect((await next(third, user)).every(({ workerId }) => workerId !== third.workerId)).toBe(true);
});

test("a draining instance gives nothing out, and goes on where it stopped", async () => {
  await evaluate(world, [node("a")]);
  await setDraining(world.db, true);
  expect((await dispatch(worker(4))).names).toEqual([]);
  await setDraining(world.db, false);
  expect((await dispatch(worker(4))).names).toEqual(["a"]);
});

test("what somebody holds locked is left out, and counted as chosen", async () => {
  await evaluate(world, [node("a"), node("b")]);
  await world.db.transaction().execute(async (trx) => {
    await sql`select id from build where drv_path = ${drvPathOf("a")} for update`.execute(trx);
    const { names, chosen } = await dispatch(worker(4));
    expect([names, chosen]).toEqual([["b"], 2]);
  });
  expect((await dispatch(worker(4))).names).toEqual(["a"]);
});

test("an attempt has until its own time limit and some hours to end; without a limit, for ever", async () => {
  await evaluate(world, [node("limited"), node("free")]);
  await sql`update build set timeout_seconds = 600 where name = 'limited'`.execute(world.db);
  await claim(world);
  const rows = await sql<{ name: string; ms: number | null }>`
    select b.name, (extract(epoch from a.deadline_at - a.assigned_at) * 1000)::float8 as ms
    from attempt a join build b on b.id = a.build_id`.execute(world.db);
  const deadlines = Object.fromEntries(rows.rows.map(({ name, ms }) => [name, ms]));
  expect(deadlines.free).toBeNull();
  expect(deadlines.limited).toBeCloseTo(600_000 + UNANSWERED_GRACE_MS, -2);
});
