import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readOpenGraph } from "#core/db/estimates.ts";
import { isDraining, setDraining } from "#core/db/scheduler-state.ts";
import { estimate } from "#core/domain/scheduling/estimate.ts";
import { tendSchedule } from "#core/services/transitions/upkeep.ts";
import { newId } from "../support/rows.ts";
import { node } from "./nodes.ts";
import {
  buildStates,
  checkInvariants,
  claim,
  claimOne,
  evaluate,
  evaluationState,
  startEvaluation,
  succeed,
  type World,
  withWorld,
} from "./support.ts";

let world: World;
beforeEach(async () => {
  world = await withWorld();
});
afterEach(async () => {
  await checkInvariants(world.db);
  await world[Symbol.asyncDispose]();
});

async function passDeadline(attemptId: string, { started }: { readonly started: boolean }): Promise<void> {
  await sql`
    update attempt set deadline_at = gradient_now() - interval '1 second',
      started_at = case when ${started}::boolean then gradient_now() end
    where id = ${attemptId}`.execute(world.db);
}

test("a build that a lively worker never ends has timed out, and one it never began is tried elsewhere", async () => {
  await evaluate(world, [node("begun"), node("forgotten"), node("busy")]);
  const builds = await claim(world);
  const attempt = (name: string) => builds.get(name)?.attemptId as string;
  await passDeadline(attempt("begun"), { started: true });
  await passDeadline(attempt("forgotten"), { started: false });
  await tendSchedule(world.deps);
  expect(await buildStates(world)).toEqual({
    begun: "FailedTimeout",
    forgotten: "FailedTransient",
    busy: "Building",
  });
  expect(world.notified).toContain(`abort ${attempt("begun")}`);
  const { message } = await world.db
    .selectFrom("attempt")
    .select("message")
    .where("id", "=", attempt("begun"))
    .executeTakeFirstOrThrow();
  expect(message).toBe("the worker did not end it within 0 minutes");
});

test("an evaluation that a lively worker never ends fails, and says so", async () => {
  const { id, attemptId } = await startEvaluation(world);
  await passDeadline(attemptId, { started: false });
  await tendSchedule(world.deps);
  expect(await evaluationState(world, id)).toBe("Failed");
});

/** Lets builds of these names end after so many seconds, long enough ago to be history. */
async function built(name: string, seconds: readonly number[]): Promise<void> {
  for (const [i, took] of seconds.entries()) {
    const full = `${name}-1.${i}`;
    await evaluate(world, [node(full)]);
    await succeed(world, await claimOne(world, full));
    await sql`
      update attempt set build_ms = ${took * 1_000}, peak_memory_bytes = ${(i + 1) * 1048576 * 100}::bigint,
        finished_at = gradient_now() - interval '20 seconds' + ${i} * interval '1 millisecond'
      where build_id = (select id from build where name = ${full})`.execute(world.db);
  }
}

test("history is by package, without versions, and keeps the last sixteen", async () => {
  await sql`update scheduler_state set history_until = gradient_now() - interval '1 hour'`.execute(world.db);
  await built("gcc", [10, 20, 30]);
  await tendSchedule(world.deps);
  const read = async () =>
    (
      await sql<{ package_name: string; durations: number[]; peak_memory_mb: number }>`
        select package_name, durations_ms::float8[] as durations, peak_memory_mb from build_history`.execute(world.db)
    ).rows;
  expect(await read()).toEqual([{ package_name: "gcc", durations: [10_000, 20_000, 30_000], peak_memory_mb: 300 }]);
  await tendSchedule(world.deps);
  expect(await read(), "counted once").toEqual([
    { package_name: "gcc", durations: [10_000, 20_000, 30_000], peak_memory_mb: 300 },
  ]);
  await sql`update build_history set durations_ms = array_fill(1::bigint, array[16])`.execute(world.db);
  await sql`update scheduler_state set history_until = gradient_now() - interval '1 hour'`.execute(world.db);
  await tendSchedule(world.deps);
  expect((await read())[0]?.durations).toEqual([...Array.from({ length: 13 }, () => 1), 10_000, 20_000, 30_000]);
});

test("what an evaluation still has to build is estimated from the history of its packages", async () => {
  await sql`
    insert into build_history (organization_id, system, package_name, durations_ms) values
      (${world.organizationId}, 'x86_64-linux', 'gcc', '{60000,60000,120000}'),
      (${world.organizationId}, 'x86_64-linux', 'tool', '{10000}')`.execute(world.db);
  const id = await evaluate(world, [node("gcc-13.2"), node("tool-2", { needs: ["gcc-13.2"] }), node("new-1")]);
  const { builds, total } = await readOpenGraph(world.db, id, 100);
  expect(total).toBe(3);
  expect(estimate(builds, 4)).toEqual({ medianMs: 70_000, ninetiethMs: 130_000, openBuilds: 3, knownBuilds: 2 });
  const running = await claimOne(world, "gcc-13.2");
  await sql`
    update attempt set started_at = gradient_now() - interval '45 seconds' where id = ${running.attemptId}`.execute(
    world.db,
  );
  const later = await readOpenGraph(world.db, id, 100);
  const left = estimate(later.builds, 4)?.medianMs as number;
  expect(left).toBeGreaterThan(20_000);
  expect(left).toBeLessThan(36_000);
});

test("a draining ends with the last server that was there when it began", async () => {
  const server = newId();
  await sql`insert into server (id) values (${server})`.execute(world.db);
  await setDraining(world.db, true);
  await tendSchedule(world.deps);
  expect(await isDraining(world.db)).toBe(true);
  await sql`insert into server (id) values (${newId()})`.execute(world.db);
  await sql`delete from server where id = ${server}`.execute(world.db);
  await tendSchedule(world.deps);
  expect(await isDraining(world.db)).toBe(false);
});
