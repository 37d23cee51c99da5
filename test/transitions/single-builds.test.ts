import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import { abortBuild } from "#core/services/transitions/abort-build.ts";
import { prioritizeBuild, prioritizeEvaluation, raisePriorities } from "#core/services/transitions/prioritize.ts";
import { restartBuild } from "#core/services/transitions/restart.ts";
import { node } from "./nodes.ts";
import {
  buildStates,
  checkInvariants,
  claim,
  claimOne,
  evaluate,
  evaluationState,
  fail,
  finishEvaluation,
  frozenLinks,
  ingest,
  linkOf,
  startEvaluation,
  succeed,
  type World,
  withWorld,
} from "./support.ts";

let world: World;
let retries = 0;
beforeEach(async () => {
  retries = 0;
  const made = await withWorld();
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
  await checkInvariants(world.db);
  await world[Symbol.asyncDispose]();
});

const GRAPH = [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] }), node("d")];

test("an aborted build stops on its worker, and what waited for it fails with it", async () => {
  const id = await evaluate(world, GRAPH);
  const a = await claimOne(world, "a");
  expect(await abortBuild(world.deps, await linkOf(world, id, "a"))).toBe("aborted");
  expect(await buildStates(world)).toEqual({ a: "Aborted", b: "DependencyFailed", c: "DependencyFailed", d: "Queued" });
  expect(world.notified).toContain(`abort ${a.attemptId}`);
  expect(await succeed(world, a)).toBe(false);
  expect(await evaluationState(world, id)).toBe("Building");
  await succeed(world, await claimOne(world, "d"));
  expect(await evaluationState(world, id)).toBe("Failed");
  expect((await frozenLinks(world, id)).get("a")).toEqual({ outcome: "Aborted", attemptId: a.attemptId });
});

test("what another evaluation waits for goes on, and is none of this one's business any more", async () => {
  const own = await evaluate(world, GRAPH);
  const other = await evaluate(world, GRAPH.slice(0, 2));
  const a = await claimOne(world, "a");
  expect(await abortBuild(world.deps, await linkOf(world, own, "a"))).toBe("taken_out");
  expect(await evaluationState(world, own)).toBe("Building");
  await checkInvariants(world.db);
  await succeed(world, await claimOne(world, "d"));
  expect(await evaluationState(world, own)).toBe("Failed");
  const frozen = await frozenLinks(world, own);
  expect([frozen.get("a")?.outcome, frozen.get("b")?.outcome, frozen.get("c")?.outcome]).toEqual([
    "Aborted",
    "DependencyFailed",
    "DependencyFailed",
  ]);
  expect(await succeed(world, a)).toBe(true);
  await succeed(world, await claimOne(world, "b"));
  expect(await evaluationState(world, other)).toBe("Completed");
  expect((await frozenLinks(world, own)).get("a")?.outcome).toBe("Aborted");
});

test("a build is aborted once", async () => {
  const id = await evaluate(world, [node("a"), node("z")]);
  await abortBuild(world.deps, await linkOf(world, id, "a"));
  await expect(abortBuild(world.deps, await linkOf(world, id, "a"))).rejects.toThrow("ended already");
});

test("a build is aborted while its evaluation goes on, and what that reports above it fails with it", async () => {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("early"), node("other")]);
  expect(await abortBuild(world.deps, await linkOf(world, evaluation.id, "early"))).toBe("aborted");
  await ingest(world, evaluation, [node("late", { needs: ["early"] })]);
  expect(await buildStates(world)).toEqual({ early: "Aborted", late: "DependencyFailed", other: "Queued" });
  await finishEvaluation(world, evaluation);
  await succeed(world, await claimOne(world, "other"));
  expect(await evaluationState(world, evaluation.id)).toBe("Failed");
});

test("what is reported above a build that was taken out does not keep the evaluation from its end", async () => {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("early")]);
  const other = await evaluate(world, [node("early")]);
  expect(await abortBuild(world.deps, await linkOf(world, evaluation.id, "early"))).toBe("taken_out");
  await ingest(world, evaluation, [node("late", { needs: ["early"] })]);
  await finishEvaluation(world, evaluation);
  for (const name of ["early", "late"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, evaluation.id)).toBe("Failed");
  expect(await evaluationState(world, other)).toBe("Completed");
});

test("aborts of builds meet the batches that put something above them without a deadlock", async () => {
  for (let round = 0; round < 10; round++) {
    const evaluation = await startEvaluation(world);
    const names = Array.from({ length: 6 }, (_, i) => `e${round}-${i}`);
    await ingest(
      world,
      evaluation,
      names.map((name) => node(name)),
    );
    const links = await Promise.all(names.map((name) => linkOf(world, evaluation.id, name)));
    const above = names.map((name, i) => node(`f${round}-${i}`, { needs: [name, names[(i + 3) % 6] as string] }));
    await Promise.all([
      ...links.slice(0, 3).map((link) => abortBuild(world.deps, link)),
      ...above.map((one) => ingest(world, evaluation, [one])),
    ]);
    await finishEvaluation(world, evaluation);
    for (const open of (await claim(world)).values()) await succeed(world, open);
    expect(await evaluationState(world, evaluation.id)).toBe("Failed");
  }
  expect(retries).toBe(0);
});

test("aborts of one build meet its end without a deadlock, and one of them counts", async () => {
  for (let round = 0; round < 10; round++) {
    const id = await evaluate(world, [node(`x${round}`), node(`y${round}`, { needs: [`x${round}`] })]);
    const build = await claimOne(world, `x${round}`);
    const link = await linkOf(world, id, `x${round}`);
    const [ended, aborted] = await Promise.all([
      succeed(world, build),
      abortBuild(world.deps, link).then(
        () => true,
        () => false,
      ),
    ]);
    expect([ended, aborted].filter(Boolean)).toHaveLength(1);
    await checkInvariants(world.db);
    for (const open of (await claim(world)).values()) await succeed(world, open);
  }
});

test("one failed build runs again within its evaluation, with what failed because of it", async () => {
  const id = await evaluate(world, [...GRAPH, node("e"), node("f", { needs: ["e"] })]);
  await fail(world, await claimOne(world, "a"), "permanent");
  await fail(world, await claimOne(world, "e"), "permanent");
  expect(await restartBuild(world.deps, await linkOf(world, id, "a"), null)).toBe(id);
  expect(await buildStates(world)).toEqual({
    a: "Queued",
    b: "Created",
    c: "Created",
    d: "Queued",
    e: "FailedPermanent",
    f: "DependencyFailed",
  });
  await expect(restartBuild(world.deps, await linkOf(world, id, "d"), null)).rejects.toThrow("nothing to restart");
});

test("one failed build runs again while its evaluation still finds more to build", async () => {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("a"), node("b", { needs: ["a"] })]);
  await fail(world, await claimOne(world, "a"), "permanent");
  expect(await restartBuild(world.deps, await linkOf(world, evaluation.id, "a"), null)).toBe(evaluation.id);
  await ingest(world, evaluation, [node("c", { needs: ["b"] })]);
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Created" });
  expect(await finishEvaluation(world, evaluation)).toBe(true);
  for (const name of ["a", "b", "c"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, evaluation.id)).toBe("Completed");
});

test("builds restarted while a batch above them is recorded never stay failed above", async () => {
  for (let round = 0; round < 10; round++) {
    const evaluation = await startEvaluation(world);
    const [a, b] = [`a${round}`, `b${round}`];
    await ingest(world, evaluation, [node(a)]);
    await fail(world, await claimOne(world, a), "permanent");
    await Promise.all([
      restartBuild(world.deps, await linkOf(world, evaluation.id, a), null),
      ingest(world, evaluation, [node(b, { needs: [a] })]),
    ]);
    expect(await buildStates(world)).toMatchObject({ [a]: "Queued", [b]: "Created" });
    await finishEvaluation(world, evaluation);
    for (const name of [a, b]) await succeed(world, await claimOne(world, name));
    expect(await evaluationState(world, evaluation.id)).toBe("Completed");
  }
});

test("what waits for another failure too stays failed, and a restart from above takes what failed below", async () => {
  const id = await evaluate(world, [node("a"), node("b"), node("both", { needs: ["a", "b"] }), node("z")]);
  await fail(world, await claimOne(world, "a"), "permanent");
  await fail(world, await claimOne(world, "b"), "permanent");
  await restartBuild(world.deps, await linkOf(world, id, "a"), null);
  expect(await buildStates(world)).toMatchObject({ a: "Queued", b: "FailedPermanent", both: "DependencyFailed" });
  await restartBuild(world.deps, await linkOf(world, id, "both"), null);
  expect(await buildStates(world)).toMatchObject({ a: "Queued", b: "Queued", both: "Created" });
});

test("after its evaluation has ended a build runs again in a new one, and history stays", async () => {
  const id = await evaluate(world, GRAPH);
  await fail(world, await claimOne(world, "a"), "permanent");
  await succeed(world, await claimOne(world, "d"));
  expect(await evaluationState(world, id)).toBe("Failed");
  const again = await restartBuild(world.deps, await linkOf(world, id, "a"), null);
  expect(again).not.toBe(id);
  for (const name of ["a", "b", "c"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, again)).toBe("Completed");
  expect((await frozenLinks(world, id)).get("a")?.outcome).toBe("FailedPermanent");
});

async function priorities(): Promise<Record<string, number>> {
  const { rows } = await sql<{ name: string; priority: number }>`select name, priority from build`.execute(world.db);
  return Object.fromEntries(rows.map(({ name, priority }) => [name, priority]));
}

test("a build that is put first takes what it waits for along, until it has ended", async () => {
  const id = await evaluate(world, GRAPH);
  await prioritizeBuild(world.deps, await linkOf(world, id, "b"), 5);
  expect(await priorities()).toEqual({ a: 5, b: 5, c: 0, d: 0 });
  await prioritizeBuild(world.deps, await linkOf(world, id, "b"), -2);
  expect(await priorities()).toEqual({ a: 5, b: -2, c: 0, d: 0 });
  const [a] = (await claim(world, { limit: 1 })).values();
  await succeed(world, a as NonNullable<typeof a>);
  await raisePriorities(world.deps);
  expect(await priorities()).toMatchObject({ a: 0, b: -2 });
  await expect(prioritizeBuild(world.deps, await linkOf(world, id, "a"), 1)).rejects.toThrow("ended already");
});

test("an evaluation that is put first is taken first, with what it finds later", async () => {
  const first = await startEvaluation(world);
  await prioritizeEvaluation(world.deps, first.id, 4);
  await ingest(world, first, [node("late")]);
  await raisePriorities(world.deps);
  expect(await priorities()).toEqual({ late: 4 });
});
