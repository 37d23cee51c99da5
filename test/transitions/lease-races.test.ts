import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import { abortEvaluation } from "#core/services/transitions/abort.ts";
import { expireLeases, prolongLeases, reattachWorker } from "#core/services/transitions/leases.ts";
import { newId } from "../support/rows.ts";
import { node } from "./nodes.ts";
import {
  checkInvariants,
  claim,
  evaluate,
  evaluationState,
  ingest,
  passTime,
  provenWorker,
  startEvaluation,
  succeed,
  type World,
  withWorld,
} from "./support.ts";

let world: World;
let retries = 0;
beforeEach(async () => {
  const made = await withWorld({ connectionsMax: 20 });
  retries = 0;
  const clock: Clock = {
    ...systemClock,
    // Transitions wait for nothing but their next try.
    schedule: (ms, action) => {
      retries++;
      return systemClock.schedule(ms, action);
    },
  };
  world = { ...made, deps: { ...made.deps, clock } };
});
afterEach(async () => {
  try {
    await checkInvariants(world.db);
  } finally {
    await world[Symbol.asyncDispose]();
  }
});

/** As if so many workers had been lost over it before. */
async function loseBefore(evaluationId: string, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    await sql`
      insert into attempt (id, kind, organization_id, evaluation_id, worker_id, lease_expires_at, finished_at, outcome,
        reason)
      values (${newId()}, 0, ${world.organizationId}, ${evaluationId}, ${world.workerId}, now(), now(), 4, 3)`.execute(
      world.db,
    );
  }
}

test("an evaluation that is given up for lost workers meets the ends of its builds without a deadlock", async () => {
  for (let round = 0; round < 15; round++) {
    const evaluation = await startEvaluation(world);
    const names = Array.from({ length: 12 }, (_, i) => `n${round}-${i}`);
    await ingest(
      world,
      evaluation,
      names.map((name, i) => node(name, { needs: i < 8 ? [] : [names[i - 8] as string, names[i - 6] as string] })),
    );
    const running = [...(await claim(world, { limit: 8 })).values()];
    await loseBefore(evaluation.id, 9);
    await passTime(world, [evaluation.attemptId]);
    await Promise.all([
      expireLeases(world.deps),
      ...running.map((build) => succeed(world, build)),
      reattachWorker(
        world.deps,
        provenWorker(world),
        running.map(({ attemptId }) => attemptId),
      ),
    ]);
    expect(await evaluationState(world, evaluation.id)).toBe("Failed");
    await checkInvariants(world.db);
  }
  expect(retries).toBe(0);
}, 60_000);

test("heartbeats of a worker meet aborts, expiries and its own return without a deadlock", async () => {
  for (let round = 0; round < 15; round++) {
    const ids = [];
    for (let i = 0; i < 3; i++) {
      const names = Array.from({ length: 8 }, (_, k) => `m${round}-${i}-${k}`);
      ids.push(
        await evaluate(
          world,
          names.map((name) => node(name)),
        ),
      );
    }
    // Leases in another order than the builds'.
    await sql`update build set priority = (random() * 10)::int where status = 1`.execute(world.db);
    const running = [...(await claim(world)).values()];
    const attempts = running.map(({ attemptId }) => attemptId);
    const proven = provenWorker(world);
    await passTime(world, attempts.slice(0, 6));
    await Promise.all([
      ...ids.map((id) => abortEvaluation(world.deps, id)),
      ...Array.from({ length: 6 }, () => prolongLeases(world.deps, proven)),
      expireLeases(world.deps),
      reattachWorker(world.deps, proven, attempts.slice(4)),
    ]);
    for (const id of ids) expect(await evaluationState(world, id)).toBe("Aborted");
  }
  expect(retries).toBe(0);
}, 60_000);

/** Leases with so much left. */
async function setSecondsLeft(seconds: number): Promise<void> {
  await sql`
    update attempt set lease_expires_at = gradient_now() + ${seconds} * interval '1 second'
    where finished_at is null`.execute(world.db);
}

async function secondsLeft(attemptId: string): Promise<number> {
  const { rows } = await sql<{ left: number }>`
    select extract(epoch from lease_expires_at - gradient_now())::float8 as left from attempt
    where id = ${attemptId}`.execute(world.db);
  return rows[0]?.left ?? Number.NaN;
}

test("a heartbeat does not wait for who holds an attempt, unless its lease is nearly over", async () => {
  await evaluate(world, [node("a"), node("b")]);
  const running = await claim(world);
  const proven = provenWorker(world);
  const [held, free] = ["a", "b"].map((name) => running.get(name)?.attemptId as string) as [string, string];

  await setSecondsLeft(40);
  await world.db.transaction().execute(async (trx) => {
    await sql`select from attempt where id = ${held} for update`.execute(trx);
    await prolongLeases(world.deps, proven);
    expect(await secondsLeft(free)).toBeGreaterThan(60);
    expect(await secondsLeft(held)).toBeLessThan(41);
  });

  await setSecondsLeft(20);
  let prolonged: Promise<void> = Promise.resolve();
  await world.db.transaction().execute(async (trx) => {
    await sql`select from attempt where id = ${held} for update`.execute(trx);
    prolonged = prolongLeases(world.deps, proven);
    await sql`select pg_sleep(0.2)`.execute(trx);
  });
  await prolonged;
  expect(await secondsLeft(held)).toBeGreaterThan(60);
});

test("a heartbeat writes nothing of leases that were given or prolonged just now", async () => {
  await evaluate(world, [node("a")]);
  const { attemptId } = (await claim(world)).get("a") ?? { attemptId: "" };
  const version = async () =>
    (await sql<{ xmin: string }>`select xmin::text from attempt where id = ${attemptId}`.execute(world.db)).rows;
  const before = await version();
  await prolongLeases(world.deps, provenWorker(world));
  expect(await version()).toEqual(before);
  await setSecondsLeft(59);
  const older = await version();
  await prolongLeases(world.deps, provenWorker(world));
  expect(await version()).not.toEqual(older);
});
