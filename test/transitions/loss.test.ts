import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import { parseStorePathBaseName, type StorePath } from "#core/nix/store-path.ts";
import { abortEvaluation } from "#core/services/transitions/abort.ts";
import { abortBuild } from "#core/services/transitions/abort-build.ts";
import type { AssignedBuild } from "#core/services/transitions/assign.ts";
import { reattachWorker } from "#core/services/transitions/leases.ts";
import { loseOutputs, loseSuspects, waitForLost } from "#core/services/transitions/loss.ts";
import { tendRecoveries } from "#core/services/transitions/recovery.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import { untilSomebodyWaits } from "../support/locks.ts";
import { node, outputPathOf } from "./nodes.ts";
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
  linkOf,
  losePath,
  provenWorker,
  putPath,
  startEvaluation,
  succeed,
  takeEvaluation,
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

function pathOf(name: string, output = "out"): StorePath {
  return parseStorePathBaseName(outputPathOf(name, output)) as StorePath;
}

/** The output's NAR is found damaged, and somebody reports it. */
async function lose(...names: string[]): Promise<number> {
  for (const name of names) await losePath(world.db, outputPathOf(name));
  return await loseOutputs(
    world.deps,
    names.map((name) => pathOf(name)),
  );
}

async function build(...names: string[]): Promise<void> {
  for (const name of names) await succeed(world, await claimOne(world, name));
}

async function waitingReason(id: string): Promise<unknown> {
  const query = world.db.selectFrom("evaluation").select("waiting_reason").where("id", "=", id);
  return (await query.executeTakeFirstOrThrow()).waiting_reason;
}

/** What is queued now, as the worker takes it. */
async function takeRecovery(): Promise<Evaluating> {
  const { id } = await world.db.selectFrom("evaluation").select("id").where("status", "=", 0).executeTakeFirstOrThrow();
  return { id, attemptId: await takeEvaluation(world, id) };
}

test("what failed and is restarted has built again what vanished below it meanwhile", async () => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a");
  await fail(world, await claimOne(world, "b"), "permanent");
  await lose("a");
  expect(await buildStates(world)).toEqual({ a: "Completed", b: "FailedPermanent" });

  const again = await restartFailed(world.deps, id, null);

  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created" });
  await build("a", "b");
  expect(await evaluationState(world, again)).toBe("Completed");
});

test("an output that vanishes is built again for what waits for it, and what was ready waits", async () => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] })]);
  await build("a");
  expect(await buildStates(world)).toEqual({ a: "Completed", b: "Queued", c: "Created" });

  expect(await lose("a")).toBe(1);

  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Created" });
  await build("a", "b", "c");
  expect(await evaluationState(world, id)).toBe("Completed");
});

test("what is needed to build it again is built again too, as far down as outputs are gone", async () => {
  const nodes = [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] }), node("d", { needs: ["c"] })];
  await evaluate(world, nodes);
  await build("a", "b", "c");
  const second = await startEvaluation(world);
  await ingest(world, second, [node("c", { pruned: true }), node("e", { needs: ["c"] })]);
  await finishEvaluation(world, second);

  await lose("a", "c");
  const before = { a: "Completed", b: "Completed", c: "Queued", d: "Created", e: "Created" };
  expect(await buildStates(world)).toEqual(before);
  await lose("b");

  expect(await buildStates(world)).toEqual({ ...before, a: "Queued", b: "Created", c: "Created" });
});

test("nobody builds again what no open build wants", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a", "b");

  await lose("a");

  expect(await buildStates(world)).toEqual({ a: "Completed", b: "Completed" });
});

test("a path that the organization can still get from elsewhere is not lost", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a");

  expect(await loseOutputs(world.deps, [pathOf("a")])).toBe(0);

  expect(await buildStates(world)).toEqual({ a: "Completed", b: "Queued" });
});

test("a build that runs goes on when its input is lost, and its failure waits for the input", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a");
  const running = await claimOne(world, "b");

  await lose("a");
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Building" });
  await checkInvariants(world.db);
  await fail(world, running, "aborted");

  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created" });
  await build("a", "b");
});

test.for<[how: string, giveBack: (running: AssignedBuild) => Promise<unknown>]>([
  ["gives it back", (running) => fail(world, running, "aborted")],
  ["fails for a while", (running) => fail(world, running, "transient")],
  ["has forgotten it", () => reattachWorker(world.deps, provenWorker(world), [])],
])("a build whose lost input was aborted while it ran fails with it when its worker %s", async ([, giveBack]) => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] })]);
  await build("a");
  const running = await claimOne(world, "b");
  await lose("a");
  await abortBuild(world.deps, await linkOf(world, id, "a"));
  expect(await buildStates(world)).toEqual({ a: "Aborted", b: "Building", c: "Created" });

  await giveBack(running);

  expect(await buildStates(world)).toEqual({ a: "Aborted", b: "DependencyFailed", c: "DependencyFailed" });
  expect(await evaluationState(world, id)).toBe("Failed");
});

test("a build that is given back while its lost input is being aborted waits for that, and fails with it", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a");
  const running = await claimOne(world, "b");
  await lose("a");
  let givingBack: Promise<boolean> | undefined;
  // The abort has looked for what waits above already, and found nothing: `b` runs.
  await world.db.transaction().execute(async (trx) => {
    await trx.updateTable("build").set({ status: BuildStatus.Aborted }).where("name", "=", "a").execute();
    givingBack = fail(world, running, "aborted");
    await untilSomebodyWaits(world.db);
  });

  expect(await givingBack).toBe(true);
  expect(await buildStates(world)).toEqual({ a: "Aborted", b: "DependencyFailed" });
});

test("a build whose lost input failed while it ran may still succeed, and what rests on it is built", async () => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] })]);
  await build("a");
  const running = await claimOne(world, "b");
  await lose("a");
  await fail(world, await claimOne(world, "a"), "permanent");

  await succeed(world, running);
  await build("c");

  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "Completed", c: "Completed" });
  expect(await evaluationState(world, id)).toBe("Failed");
});

test("what is opened again belongs to the evaluations that need it, and is aborted with the last of them", async () => {
  const nodes = [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] })];
  await evaluate(world, nodes.slice(0, 2));
  await build("a", "b");
  const second = await startEvaluation(world);
  await ingest(world, second, [node("b", { pruned: true }), node("c", { needs: ["b"] })]);
  await finishEvaluation(world, second);
  await lose("a", "b");
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Created" });

  await abortEvaluation(world.deps, second.id);

  expect(await buildStates(world)).toEqual({ a: "Aborted", b: "Aborted", c: "Aborted" });
});

test("damage that somebody marked is acted on, by whichever server looks next", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a");
  await losePath(world.db, outputPathOf("a"));

  await loseSuspects(world.deps);

  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created" });
});

test("dependents without number are told in parts, and a crash in between loses none", async () => {
  const dependents = Array.from({ length: 1_200 }, (_, i) => node(`b${i}`, { needs: ["a"] }));
  await evaluate(world, [node("a"), ...dependents]);
  await build("a");
  let committed = 0;
  const notify = () => {
    // After a commit: what was told by then is told.
    if (committed++ > 0) throw new Error("the server dies");
  };
  const dying = { ...world.deps, notifier: { ...world.deps.notifier, notify } };
  await losePath(world.db, outputPathOf("a"));
  await expect(loseOutputs(dying, [pathOf("a")])).rejects.toThrow("the server dies");
  expect((await buildStates(world)).a).toBe("Queued");
  expect(Object.values(await buildStates(world)).filter((state) => state === "Queued").length).toBeGreaterThan(1);

  await loseSuspects(world.deps);

  expect(Object.values(await buildStates(world)).filter((state) => state === "Created").length).toBe(1_200);
  await build("a");
  expect(Object.values(await buildStates(world)).filter((state) => state === "Queued").length).toBe(1_200);
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

/** Two layers of six, everyone above needs three below; reported so that ids go against the dependencies' order. */
function mesh(round: number): readonly [below: readonly string[], above: readonly string[]] {
  const names = (layer: string) => Array.from({ length: 6 }, (_, i) => `${layer}${round}-${(i * 5) % 6}`);
  return [names("low"), names("high")];
}

test("losses meet ends, batches, aborts and each other without a deadlock, and leave the counters right", async () => {
  const meeting = countingRetries();
  for (let round = 0; round < 20; round++) {
    const [low, high] = mesh(round);
    const below = low.map((name) => node(name));
    const above = high.map((name, i) => node(name, { needs: [0, 1, 2].map((k) => low[(i + 2 * k) % 6] as string) }));
    // What is above is recorded first by a batch that knows what is below from the caches.
    for (const name of low) await putPath(meeting, outputPathOf(name));
    const first = await startEvaluation(meeting);
    await ingest(meeting, first, [...low.map((name) => node(name, { pruned: true })), ...above]);
    await finishEvaluation(meeting, first);
    const second = await startEvaluation(meeting);
    const running = [...(await claim(meeting, { limit: 3 })).values()];
    for (const name of low) await losePath(meeting.db, outputPathOf(name));
    const lossOf = (names: readonly string[]) =>
      loseOutputs(
        meeting.deps,
        names.map((name) => pathOf(name)),
      );
    const settled = await Promise.allSettled([
      lossOf(low.slice(0, 4)),
      lossOf(low.toReversed()),
      ingest(meeting, second, [...below, ...above]),
      lossOf(low.slice(2)),
      ...running.map((item) => succeed(meeting, item)),
      ...(round % 4 === 0 ? [abortEvaluation(meeting.deps, first.id)] : []),
    ]);
    for (const outcome of settled) if (outcome.status === "rejected") throw outcome.reason;
    await loseSuspects(meeting.deps);
    await checkInvariants(meeting.db);
    await finishEvaluation(meeting, second);
    while ((await evaluationState(meeting, second.id)) === "Building") {
      const builds = [...(await claim(meeting)).values()];
      expect(builds).not.toEqual([]);
      await Promise.all(builds.map((item) => succeed(meeting, item)));
    }
    expect(await evaluationState(meeting, second.id)).toBe("Completed");
  }
  expect(meeting.retries()).toBe(0);
}, 60_000);

test("an output that somebody brings back while its loss waits for a lock is not lost", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a");
  await losePath(world.db, outputPathOf("a"));
  let losing: Promise<number> | undefined;
  await world.db.transaction().execute(async (trx) => {
    await trx.selectFrom("build").select("id").where("name", "=", "a").forNoKeyUpdate().execute();
    losing = loseOutputs(world.deps, [pathOf("a")]);
    await untilSomebodyWaits(world.db);
    await putPath(world, outputPathOf("a"));
  });

  expect(await losing).toBe(0);
  expect(await buildStates(world)).toEqual({ a: "Completed", b: "Queued" });
});

test("how a vanished output is made that nobody recorded is found out by evaluating its commit again", async () => {
  await putPath(world, outputPathOf("a"));
  const id = await evaluate(world, [node("a", { pruned: true }), node("b", { needs: ["a"] })]);
  await lose("a");
  expect(await buildStates(world)).toEqual({ a: "Substituted", b: "Created" });

  await tendRecoveries(world.deps);
  await tendRecoveries(world.deps);

  const recovery = await takeRecovery();
  expect(await waitingReason(id)).toEqual({ kind: "recovery", evaluation: recovery.id, rounds_left: 2 });
  await ingest(world, recovery, [node("z"), node("a", { needs: ["z"] }), node("b", { needs: ["a"] })]);
  await finishEvaluation(world, recovery);
  await tendRecoveries(world.deps);
  expect(await waitingReason(id)).toBeNull();
  await build("z", "a", "b");
  expect(await evaluationState(world, id)).toBe("Completed");
  expect(await evaluationState(world, recovery.id)).toBe("Completed");
});

test("after three recoveries in vain what waits fails, and says why", async () => {
  await putPath(world, outputPathOf("a"));
  const id = await evaluate(world, [node("a", { pruned: true }), node("b", { needs: ["a"] })]);
  await lose("a");
  for (let round = 0; round < 3; round++) {
    await tendRecoveries(world.deps);
    expect(await evaluationState(world, id)).toBe("Building");
    await finishEvaluation(world, await takeRecovery());
  }

  await tendRecoveries(world.deps);

  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "DependencyFailed" });
  expect(await evaluationState(world, id)).toBe("Failed");
  const messages = world.db.selectFrom("evaluation_message").select("message").where("evaluation_id", "=", id);
  expect((await messages.executeTakeFirstOrThrow()).message).toMatch(/vanished.*3 evaluations/);
});

test("an output is recovered also for an evaluation whose other builds wait for a worker", async () => {
  await putPath(world, outputPathOf("a"));
  const id = await evaluate(world, [node("a", { pruned: true }), node("b", { needs: ["a"] }), node("other")]);
  await lose("a");
  const reason = JSON.stringify({ kind: "workers", unmet: [], connected_workers: 0, available_architectures: [] });
  await sql`update evaluation set status = 4, waiting_reason = ${reason}::jsonb where id = ${id}`.execute(world.db);

  await tendRecoveries(world.deps);

  const recovery = await takeRecovery();
  await ingest(world, recovery, [node("a")]);
  await finishEvaluation(world, recovery);
  await build("a", "b", "other");
  expect(await evaluationState(world, id)).toBe("Completed");
});

test("what was given up is recovered after all when a restart asks for it", async () => {
  await putPath(world, outputPathOf("a"));
  const id = await evaluate(world, [node("a", { pruned: true }), node("b", { needs: ["a"] })]);
  await sql`
    update evaluation set input_overrides = '[{"input": "nixpkgs", "url": "https://example.org/x"}]'
    where id = ${id}`.execute(world.db);
  await lose("a");
  for (let round = 0; round < 3; round++) {
    await tendRecoveries(world.deps);
    await finishEvaluation(world, await takeRecovery());
  }
  await tendRecoveries(world.deps);
  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "DependencyFailed" });

  const again = await restartFailed(world.deps, id, null);

  expect(await buildStates(world)).toEqual({ a: "Substituted", b: "Created" });
  await tendRecoveries(world.deps);
  const recovery = await takeRecovery();
  const evaluations = world.db
    .selectFrom("evaluation")
    .select("input_overrides")
    .where("id", "in", [again, recovery.id]);
  for (const { input_overrides } of await evaluations.execute()) {
    expect(input_overrides).toEqual([{ input: "nixpkgs", url: "https://example.org/x" }]);
  }
  await ingest(world, recovery, [node("a"), node("b", { needs: ["a"] })]);
  await finishEvaluation(world, recovery);
  await build("a", "b");
  expect(await evaluationState(world, again)).toBe("Completed");
});

test("two servers that see the same need begin one recovery", async () => {
  await putPath(world, outputPathOf("a"));
  await evaluate(world, [node("a", { pruned: true }), node("b", { needs: ["a"] })]);
  await lose("a");

  await Promise.all(Array.from({ length: 4 }, () => tendRecoveries(world.deps)));

  const { rows } = await sql`select id from evaluation where kind = 2`.execute(world.db);
  expect(rows.length).toBe(1);
});

test("a build waits for what an input of it refers to, once its worker could not get that", async () => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] })]);
  await build("a", "b");
  const running = await claimOne(world, "c");
  await losePath(world.db, outputPathOf("a"));
  const { id: buildId } = running;
  await loseOutputs(world.deps, [pathOf("a")]);
  expect(await buildStates(world)).toEqual({ a: "Completed", b: "Completed", c: "Building" });

  expect(await waitForLost(world.deps, buildId, [pathOf("a")])).toEqual(new Set([pathOf("a")]));
  await fail(world, running, "aborted");

  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Completed", c: "Created" });
  await build("a", "c");
  expect(await evaluationState(world, id)).toBe("Completed");
});

test("a build never waits for what waits for it, whatever its worker says", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await build("a", "b");
  await evaluate(world, [node("x"), node("a", { pruned: true })]);
  const running = await claimOne(world, "x");
  await sql`update build_output set available = false where store_path in (${outputPathOf("b")})`.execute(world.db);
  await sql`
    insert into build_edge (build_id, dependency_id, outputs)
    select b.id, x.id, '{out}' from build b, build x where b.name = 'b' and x.name = 'x'`.execute(world.db);
  await sql`update build set pending_dependencies = 1 where name = 'b'`.execute(world.db);

  expect((await waitForLost(world.deps, running.id, [pathOf("b")])).size).toBe(0);
});
