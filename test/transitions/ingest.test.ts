import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { tidyTransitions } from "#core/services/transitions/leases.ts";
import { drvPathOf, node, outputPathOf } from "./nodes.ts";
import {
  buildStates,
  checkInvariants,
  claim,
  claimOne,
  evaluate,
  evaluationState,
  fail,
  finishEvaluation,
  ingest,
  losePath,
  passTime,
  putPath,
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
  try {
    await checkInvariants(world.db);
  } finally {
    await world[Symbol.asyncDispose]();
  }
});

/** Five layers of three; each needs all of the layer below. */
function layers() {
  return Array.from({ length: 15 }, (_, i) => {
    const layer = Math.floor(i / 3);
    const below = layer === 0 ? [] : [0, 1, 2].map((k) => `n${layer - 1}-${k}`);
    return node(`n${layer}-${i % 3}`, { needs: below });
  });
}

async function everyRow(): Promise<unknown> {
  const tables = [
    "build",
    "build_output",
    "build_edge",
    "build_derivation",
    "evaluation_build",
    "entry_point",
  ] as const;
  const rows: unknown[] = [];
  for (const table of tables) {
    rows.push((await sql`select t::text as row from ${sql.table(table)} t order by 1`.execute(world.db)).rows);
  }
  rows.push(await world.db.selectFrom("evaluation_message").selectAll().execute());
  return rows;
}

test("ingest of five layers makes exactly the leaves ready, and each layer follows the one below", async () => {
  const id = await evaluate(world, layers());
  for (let layer = 0; layer < 5; layer++) {
    const states = await buildStates(world);
    const ready = Object.keys(states).filter((name) => states[name] === "Queued");
    expect(ready.sort()).toEqual([0, 1, 2].map((k) => `n${layer}-${k}`));
    for (const build of (await claim(world)).values()) {
      await succeed(world, build);
      await checkInvariants(world.db);
    }
  }
  expect(await evaluationState(world, id)).toBe("Completed");
});

test("repeating a batch changes no row", async () => {
  const evaluation = await startEvaluation(world);
  await putPath(world, outputPathOf("cached"));
  const batch = [
    node("cached", { pruned: true }),
    ...layers(),
    node("odd", { unsupported: "impure" }),
    node("top", { needs: ["n4-0", "cached", "odd"] }),
  ];
  await ingest(world, evaluation, batch, { top: "top" });
  const before = await everyRow();
  expect(await ingest(world, evaluation, batch, { top: "top" })).toBe(true);
  expect(await everyRow()).toEqual(before);
});

test("a second attribute of a derivation that an earlier batch reported is recorded", async () => {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("a")], { first: "a" });
  await ingest(world, evaluation, [], { second: "a" });
  const rows = await world.db.selectFrom("entry_point").select("attribute").orderBy("attribute").execute();
  expect(rows.map((row) => row.attribute)).toEqual([["first"], ["second"]]);
});

test("a dependency that this evaluation has not reported is refused, also when another one has", async () => {
  await evaluate(world, [node("a")]);
  const evaluation = await startEvaluation(world);
  await expect(ingest(world, evaluation, [node("b", { needs: ["a"] })])).rejects.toThrow(/not reported before/);
  await expect(ingest(world, evaluation, [node("b", { needs: ["x"] })])).rejects.toThrow(/not reported before/);
  await expect(ingest(world, evaluation, [], { top: "a" })).rejects.toThrow(/not reported before/);
  expect(await buildStates(world)).toEqual({ a: "Queued" });
});

test("a batch in the wrong order, with a derivation twice, or with a need nobody makes is refused", async () => {
  const evaluation = await startEvaluation(world);
  const refusal = { code: "validation" };
  await expect(ingest(world, evaluation, [node("b", { needs: ["a"] }), node("a")])).rejects.toMatchObject(refusal);
  await expect(ingest(world, evaluation, [node("a"), node("a")])).rejects.toMatchObject(refusal);
  await expect(ingest(world, evaluation, [node("a"), node("b", { needs: ["a:doc"] })])).rejects.toMatchObject(refusal);
  await ingest(world, evaluation, [node("a")]);
  await expect(ingest(world, evaluation, [node("b", { needs: ["a:doc"] })])).rejects.toMatchObject(refusal);
  expect(await buildStates(world)).toEqual({ a: "Queued" });
});

test("a pruned node is recorded with its proof, and a pruned node that is not available is refused", async () => {
  const evaluation = await startEvaluation(world);
  await putPath(world, outputPathOf("a"));
  await ingest(world, evaluation, [
    node("a", { pruned: true, needs: ["never-reported"] }),
    node("b", { needs: ["a"] }),
  ]);
  expect(await buildStates(world)).toEqual({ a: "Substituted", b: "Queued" });
  const a = await world.db.selectFrom("build").selectAll().where("name", "=", "a").executeTakeFirstOrThrow();
  expect(a).toMatchObject({ pruned_cache_id: world.cacheId, pruned_at: expect.any(Date) });

  const absent = ingest(world, evaluation, [node("c", { pruned: true }), node("d", { needs: ["c"] })]);
  await expect(absent).rejects.toMatchObject({ code: "conflict" });
  expect(Object.keys(await buildStates(world))).toEqual(["a", "b"]);
});

test("a needed output that no cache has beside a pruned one is refused: it would be waited for in vain", async () => {
  const evaluation = await startEvaluation(world);
  await putPath(world, outputPathOf("a"));
  const a = node("a", { pruned: true, outputs: ["out", "dev"] });
  await expect(ingest(world, evaluation, [a, node("b", { needs: ["a:dev"] })])).rejects.toThrow(/dev is no longer/);
  await ingest(world, evaluation, [a, node("b", { needs: ["a"] })]);
  expect(await buildStates(world)).toEqual({ a: "Substituted", b: "Queued" });
});

test("a pruned row that is expanded later gets its edges, and goes on counting as done", async () => {
  await putPath(world, outputPathOf("a"));
  await evaluate(world, [node("a", { pruned: true, needs: ["base"] }), node("b", { needs: ["a"] })]);
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("base"), node("a", { needs: ["base"] })]);
  expect(await buildStates(world)).toEqual({ a: "Substituted", b: "Queued", base: "Queued" });
  const a = await world.db.selectFrom("build").selectAll().where("name", "=", "a").executeTakeFirstOrThrow();
  expect(a).toMatchObject({ pending_dependencies: 1, pruned_at: null, pruned_cache_id: null });
});

test("an expanded build that waits and is found in a cache counts as done, for other evaluations too", async () => {
  const graph = [node("base"), node("a", { needs: ["base"] }), node("b", { needs: ["a"] })];
  const first = await evaluate(world, graph);
  const alone = await evaluate(world, [node("base"), node("a", { needs: ["base"] })]);
  await putPath(world, outputPathOf("a"));
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("a", { pruned: true }), node("b", { needs: ["a"] })]);
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({ a: "Substituted", b: "Queued", base: "Queued" });

  // Its edge to what it no longer needs is still counted down, once.
  await succeed(world, await claimOne(world, "base"));
  await checkInvariants(world.db);
  expect(await evaluationState(world, alone)).toBe("Completed");
  await succeed(world, await claimOne(world, "b"));
  expect(await evaluationState(world, first)).toBe("Completed");
});

test("an evaluation whose last build another evaluation finds in a cache ends", async () => {
  const first = await evaluate(world, [node("a")]);
  await putPath(world, outputPathOf("a"));
  await evaluate(world, [node("a", { pruned: true })]);
  expect(await evaluationState(world, first)).toBe("Completed");
});

test("a build that runs goes on when its outputs are found; what waits for it is released by its result", async () => {
  await evaluate(world, [node("a")]);
  const running = await claimOne(world, "a");
  await putPath(world, outputPathOf("a"));
  await evaluate(world, [node("a", { pruned: true }), node("b", { needs: ["a"] })]);
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({ a: "Building", b: "Created" });
  expect(await succeed(world, running)).toBe(true);
  expect(await buildStates(world)).toEqual({ a: "Completed", b: "Queued" });
});

test("a build that others wait for stays open when a cache has only some of its outputs", async () => {
  const a = { outputs: ["out", "dev"] };
  await evaluate(world, [node("a", a), node("b", { needs: ["a:dev"] })]);
  await putPath(world, outputPathOf("a"));
  await evaluate(world, [node("a", { ...a, pruned: true }), node("c", { needs: ["a"] })]);
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Created" });
});

test("an output that was not there before opens its build again when it is wanted", async () => {
  await putPath(world, outputPathOf("a"));
  const a = { outputs: ["out", "dev"] };
  await evaluate(world, [node("a", { ...a, pruned: true })]);
  await evaluate(world, [node("a", a), node("b", { needs: ["a:dev"] }), node("c", { needs: ["a:out"] })]);
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Queued" });
});

test("a lost output opens its build again and raises the counters above, and nothing else", async () => {
  const graph = [
    node("a", { outputs: ["out", "dev"] }),
    node("slow"),
    node("b", { needs: ["a:dev"] }),
    node("c", { needs: ["a:out"] }),
    node("d", { needs: ["a:dev", "slow"] }),
  ];
  await evaluate(world, graph);
  await succeed(world, await claimOne(world, "a"));
  expect(await buildStates(world)).toMatchObject({ b: "Queued", c: "Queued", d: "Created" });
  const running = await claimOne(world, "c");

  await losePath(world.db, outputPathOf("a", "dev"));
  const second = await startEvaluation(world);
  await ingest(world, second, graph.slice(0, 1));
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Building", d: "Created", slow: "Queued" });
  await succeed(world, running);

  await ingest(world, second, graph.slice(1));
  await finishEvaluation(world, second);
  await checkInvariants(world.db);
  await succeed(world, await claimOne(world, "a"));
  expect(await buildStates(world)).toMatchObject({ a: "Completed", b: "Queued", c: "Completed", d: "Created" });
});

test("a loss that one batch reports together with its dependents is counted once", async () => {
  const graph = [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] })];
  await evaluate(world, graph);
  await succeed(world, await claimOne(world, "a"));
  await succeed(world, await claimOne(world, "b"));
  await losePath(world.db, outputPathOf("a"));
  await losePath(world.db, outputPathOf("b"));
  await evaluate(world, graph);
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Created" });
});

test("a deterministic failure stays closed to the next evaluation, and what waits for it fails with it", async () => {
  const graph = [node("a"), node("b", { needs: ["a"] })];
  await evaluate(world, graph);
  await fail(world, await claimOne(world, "a"), "permanent");
  const second = await evaluate(world, graph);
  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "DependencyFailed" });
  expect(await evaluationState(world, second)).toBe("Failed");
});

test("what failed for want of tries or timed out is opened by the next evaluation, with what hung on it", async () => {
  const graph = [
    node("tries"),
    node("slow"),
    node("above-tries", { needs: ["tries"] }),
    node("above-slow", { needs: ["slow"] }),
  ];
  const first = await evaluate(world, graph);
  for (let attempt = 0; attempt < 3; attempt++) {
    await fail(world, await claimOne(world, "tries"), "transient");
    await passTime(world);
    await tidyTransitions(world.deps);
  }
  await fail(world, await claimOne(world, "slow"), "timeout");
  expect(await buildStates(world)).toEqual({
    tries: "FailedPermanent",
    slow: "FailedTimeout",
    "above-tries": "DependencyFailed",
    "above-slow": "DependencyFailed",
  });
  expect(await evaluationState(world, first)).toBe("Failed");
  await evaluate(world, graph);
  expect(await buildStates(world)).toEqual({
    tries: "Queued",
    slow: "Queued",
    "above-tries": "Created",
    "above-slow": "Created",
  });
});

test("an unsupported derivation fails with a message, and everything that waits for it", async () => {
  const id = await evaluate(world, [node("odd", { unsupported: "it is impure" }), node("b", { needs: ["odd"] })]);
  expect(await buildStates(world)).toEqual({ b: "DependencyFailed", odd: "FailedPermanent" });
  expect(await evaluationState(world, id)).toBe("Failed");
  const message = await world.db.selectFrom("evaluation_message").selectAll().executeTakeFirstOrThrow();
  expect(message.message).toBe(`${drvPathOf("odd")}: it is impure`);
});
