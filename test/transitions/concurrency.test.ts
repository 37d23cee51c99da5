import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { WorkerDescription } from "#core/db/schema.ts";
import { openWorkerConnection } from "#core/db/worker-connections.ts";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import { abortEvaluation } from "#core/services/transitions/abort.ts";
import type { AssignedBuild } from "#core/services/transitions/assign.ts";
import { endEvaluationAttempt } from "#core/services/transitions/evaluation-progress.ts";
import type { ParsedNode } from "#core/services/transitions/parse-nodes.ts";
import { newId } from "../support/rows.ts";
import { node } from "./nodes.ts";
import {
  buildStates,
  checkInvariants,
  claim,
  claimOne,
  type Evaluating,
  evaluate,
  evaluationState,
  fail,
  finishEvaluation,
  ingest,
  startEvaluation,
  succeed,
  type World,
  withWorld,
} from "./support.ts";

let world: World;
beforeEach(async () => {
  world = await withWorld({ connectionsMax: 20 });
});
afterEach(async () => {
  try {
    await checkInvariants(world.db);
  } finally {
    await world[Symbol.asyncDispose]();
  }
});

/** Ten of a layer; each needs three of the layer below. */
function graph(layers: number, prefix = "n"): ParsedNode[] {
  return Array.from({ length: layers * 10 }, (_, i) => {
    const layer = Math.floor(i / 10);
    const needs = layer === 0 ? [] : [0, 1, 2].map((k) => `${prefix}${layer - 1}-${(i * 3 + k) % 10}`);
    return node(`${prefix}${layer}-${i % 10}`, { needs: [...new Set(needs)] });
  });
}

/** The nodes in another order in which dependencies come first. */
function shuffled(nodes: readonly ParsedNode[]): ParsedNode[] {
  const left = [...nodes];
  const done = new Set<string>();
  const order: ParsedNode[] = [];
  while (left.length > 0) {
    const ready = left.filter((item) => item.dependencies.every(({ drvPath }) => done.has(drvPath)));
    const next = ready[Math.floor(Math.random() * ready.length)] as ParsedNode;
    left.splice(left.indexOf(next), 1);
    done.add(next.drvPath);
    order.push(next);
  }
  return order;
}

async function report(evaluation: Evaluating, nodes: readonly ParsedNode[], size: number): Promise<void> {
  for (let start = 0; start < nodes.length; start += size) {
    await ingest(world, evaluation, nodes.slice(start, start + size));
  }
  await finishEvaluation(world, evaluation);
}

test("evaluations that report overlapping graphs at once, while builds end, leave the counters right", async () => {
  const nodes = graph(5);
  const evaluations: Evaluating[] = [];
  for (let i = 0; i < 6; i++) evaluations.push(await startEvaluation(world));
  let reporting = true;
  const building = (async () => {
    while (reporting) {
      const builds = [...(await claim(world, { limit: 6 })).values()];
      await Promise.all(builds.map((build) => succeed(world, build)));
    }
  })();
  await Promise.all(evaluations.map((evaluation, i) => report(evaluation, shuffled(nodes), 3 + i * 2)));
  reporting = false;
  await building;
  await checkInvariants(world.db);

  for (let layer = 0; layer < 6; layer++) {
    const builds = [...(await claim(world)).values()];
    await Promise.all(builds.map((build) => succeed(world, build)));
  }
  expect(new Set(Object.values(await buildStates(world)))).toEqual(new Set(["Completed"]));
  for (const { id } of evaluations) expect(await evaluationState(world, id)).toBe("Completed");
});

test("of many that claim at once no two get the same build, and together they get all", async () => {
  await evaluate(
    world,
    Array.from({ length: 60 }, (_, i) => node(`n${i}`)),
  );
  const claims = await Promise.all(Array.from({ length: 12 }, () => claim(world, { limit: 5 })));
  const names = claims.flatMap((builds) => [...builds.keys()]);
  expect(new Set(names).size).toBe(names.length);
  names.push(...(await claim(world)).keys());
  expect(new Set(names).size).toBe(60);
});

test("a claim does not wait for a build that another transaction holds", async () => {
  await evaluate(world, [node("held"), node("free")]);
  await world.db.transaction().execute(async (trx) => {
    await trx.selectFrom("build").select("id").where("name", "=", "held").forNoKeyUpdate().execute();
    expect([...(await claim(world)).keys()]).toEqual(["free"]);
  });
  expect([...(await claim(world)).keys()]).toEqual(["held"]);
});

test("an evaluation ends once when its last two builds end at the same moment", async () => {
  for (let round = 0; round < 10; round++) {
    const names = [`a${round}`, `b${round}`];
    const id = await evaluate(
      world,
      names.map((name) => node(name)),
    );
    const builds = [...(await claim(world)).values()];
    await Promise.all(builds.map((build: AssignedBuild) => succeed(world, build)));
    expect(await evaluationState(world, id)).toBe("Completed");
    await checkInvariants(world.db);
  }
});

test("an evaluation ends when its last build ends while it is done evaluating", async () => {
  for (let round = 0; round < 15; round++) {
    const evaluation = await startEvaluation(world);
    await ingest(world, evaluation, [node(`a${round}`)]);
    const build = await claimOne(world, `a${round}`);
    await Promise.all([finishEvaluation(world, evaluation), succeed(world, build)]);
    expect(await evaluationState(world, evaluation.id)).toBe("Completed");
  }
});

test("dependents that an evaluation reports while their dependency ends become ready or wait, never both", async () => {
  for (let round = 0; round < 10; round++) {
    const low = `low${round}`;
    await evaluate(world, [node(low)]);
    const build = await claimOne(world, low);
    const evaluation = await startEvaluation(world);
    await ingest(world, evaluation, [node(low)]);
    const dependents = Array.from({ length: 5 }, (_, i) => node(`top${round}-${i}`, { needs: [low] }));
    await Promise.all([succeed(world, build), ingest(world, evaluation, dependents)]);
    await checkInvariants(world.db);
    await finishEvaluation(world, evaluation);
    for (const top of (await claim(world)).values()) await succeed(world, top);
    expect(await evaluationState(world, evaluation.id)).toBe("Completed");
  }
});

test("an abort does not take a build from an evaluation that links it at that moment", async () => {
  for (let round = 0; round < 10; round++) {
    const nodes = [node(`a${round}`), node(`b${round}`, { needs: [`a${round}`] })];
    const first = await evaluate(world, nodes);
    const second = await startEvaluation(world);
    await Promise.all([abortEvaluation(world.deps, first), ingest(world, second, nodes)]);
    await finishEvaluation(world, second);
    await checkInvariants(world.db);
    for (const name of [`a${round}`, `b${round}`]) await succeed(world, await claimOne(world, name));
    expect(await evaluationState(world, second.id)).toBe("Completed");
  }
});

/** The world of these tests, with a count of the transitions that PostgreSQL broke off and that ran again. */
function countingRetries(): World & { retries(): number } {
  let retries = 0;
  const clock: Clock = {
    ...systemClock,
    // Transitions wait for nothing but their next try.
    schedule: (ms, action) => {
      retries++;
      return systemClock.schedule(ms, action);
    },
  };
  return { ...world, deps: { ...world.deps, clock }, retries: () => retries };
}

test("aborts meet batches and ends of builds without a deadlock", async () => {
  const meeting = countingRetries();
  for (let round = 0; round < 30; round++) {
    const evaluations = [await startEvaluation(meeting), await startEvaluation(meeting)] as const;
    for (const evaluation of evaluations) await ingest(meeting, evaluation, graph(2, `r${round}-`));
    const running = [...(await claim(meeting, { limit: 6 })).values()];
    const [aborted, other] = evaluations;
    await Promise.all([
      abortEvaluation(meeting.deps, aborted.id),
      ingest(meeting, aborted, graph(3, `r${round}-`)),
      ...running.map((build, i) => (i % 3 === 2 ? fail(meeting, build, "permanent") : succeed(meeting, build))),
      ingest(meeting, other, graph(3, `r${round}-`)),
      claim(meeting, { limit: 3 }),
    ]);
    expect(await evaluationState(meeting, aborted.id)).toBe("Aborted");
    await abortEvaluation(meeting.deps, other.id);
  }
  expect(meeting.retries()).toBe(0);
}, 60_000);

test("an evaluation that fails meets ends of its builds without a deadlock", async () => {
  const meeting = countingRetries();
  const failure = { class: "permanent", message: "it does not evaluate" } as const;
  for (let round = 0; round < 15; round++) {
    const evaluation = await startEvaluation(meeting);
    await ingest(meeting, evaluation, graph(2, `r${round}-`));
    const running = [...(await claim(meeting, { limit: 6 })).values()];
    await Promise.all([
      endEvaluationAttempt(
        meeting.deps,
        evaluation.attemptId,
        { kind: "evaluation", status: "failed", failure },
        newId(),
      ),
      ...running.map((build) => succeed(meeting, build)),
    ]);
    expect(await evaluationState(meeting, evaluation.id)).toBe("Failed");
  }
  expect(meeting.retries()).toBe(0);
}, 60_000);

/** Resolves when a statement of this database waits for a lock. */
async function somebodyWaits(): Promise<void> {
  await expect
    .poll(async () => {
      const { rows } = await sql`
        select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.execute(
        world.db,
      );
      return rows.length;
    })
    .toBeGreaterThan(0);
}

test("an abort that waits for a link to be written sees it then, and leaves the build", async () => {
  const first = await evaluate(world, [node("a")]);
  const second = await startEvaluation(world);
  let aborting: Promise<void> | undefined;
  await world.db.transaction().execute(async (trx) => {
    const lock = trx.selectFrom("build").select("id").where("name", "=", "a").forNoKeyUpdate();
    const { id } = await lock.executeTakeFirstOrThrow();
    aborting = abortEvaluation(world.deps, first);
    await somebodyWaits();
    await trx.insertInto("evaluation_build").values({ id: newId(), evaluation_id: second.id, build_id: id }).execute();
  });
  await aborting;
  expect(await buildStates(world)).toEqual({ a: "Queued" });
  expect(await evaluationState(world, first)).toBe("Aborted");
});

test("a failure reaches what is put above its dependents while it waits for them", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] }), node("c")]);
  const failing = await claimOne(world, "a");
  let failed: Promise<boolean> | undefined;
  await world.db.transaction().execute(async (trx) => {
    const lock = trx.selectFrom("build").select("id").where("name", "=", "b").forNoKeyUpdate();
    const { id } = await lock.executeTakeFirstOrThrow();
    failed = fail(world, failing, "permanent");
    await somebodyWaits();
    await sql`
      insert into build_edge (build_id, dependency_id, outputs)
      select id, ${id}, '{out}' from build where name = 'c'`.execute(trx);
    await sql`update build set status = 0, pending_dependencies = 1 where name = 'c'`.execute(trx);
  });
  await failed;
  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "DependencyFailed", c: "DependencyFailed" });
});

test("of many sessions that a worker opens at once, on many servers, exactly one stays open", async () => {
  const description = {} as WorkerDescription;
  const ids = Array.from({ length: 8 }, () => newId());
  const session = { workerId: world.workerId, serverId: newId(), description };
  const connection = { ...session, organizationIds: [world.organizationId] };
  const foreign = { ...session, id: newId(), organizationIds: [newId()] };
  const both = { ...foreign, id: newId(), organizationIds: [world.organizationId, newId()] };
  await openWorkerConnection(world.db, foreign);
  await openWorkerConnection(world.db, both);
  await Promise.all(ids.map((id) => openWorkerConnection(world.db, { id, ...connection })));
  const others = world.db.selectFrom("worker_connection").where("disconnected_at", "is", null);
  const organizationsOf = async (id: string) =>
    (await others.select("organization_ids").where("id", "=", id).executeTakeFirst())?.organization_ids;
  expect(await organizationsOf(foreign.id)).toEqual(foreign.organizationIds);
  expect(await organizationsOf(both.id)).toEqual(both.organizationIds.slice(1));
  const rows = await world.db
    .selectFrom("worker_connection")
    .select("disconnected_at")
    .where("id", "in", ids)
    .execute();
  expect(rows.length).toBe(8);
  expect(rows.filter((row) => row.disconnected_at === null).length).toBe(1);
});
