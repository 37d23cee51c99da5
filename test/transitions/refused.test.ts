import { afterEach, beforeEach, expect, test } from "vitest";
import { isRefusedForGood } from "#core/db/failure.ts";
import { endRefusedAttempt } from "#core/services/transitions/refused.ts";
import { node } from "./nodes.ts";
import {
  buildStates,
  checkInvariants,
  claimOne,
  evaluate,
  evaluationState,
  ingest,
  startEvaluation,
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

test("a build whose result can never be recorded fails with the reason, and what waits for it with it", async () => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  const { attemptId } = await claimOne(world, "a");

  expect(await endRefusedAttempt(world.deps, attemptId, "bigint out of range")).toBe(true);

  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "DependencyFailed" });
  expect(await evaluationState(world, id)).toBe("Failed");
  const attempt = world.db.selectFrom("attempt").select("message").where("id", "=", attemptId);
  expect((await attempt.executeTakeFirstOrThrow()).message).toBe(
    "the server could not record what the worker reported: bigint out of range",
  );
  // A later evaluation may try it again: it was not the builder that failed.
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created" });
});

test("an evaluation whose report can never be recorded fails, and what only it needs stops", async () => {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("a")]);

  expect(await endRefusedAttempt(world.deps, evaluation.attemptId, "not text")).toBe(true);

  expect(await evaluationState(world, evaluation.id)).toBe("Failed");
  expect(await buildStates(world)).toEqual({ a: "Aborted" });
});

test("a refusal of what has ended changes nothing", async () => {
  const evaluation = await startEvaluation(world);
  await endRefusedAttempt(world.deps, evaluation.attemptId, "once");

  expect(await endRefusedAttempt(world.deps, evaluation.attemptId, "twice")).toBe(false);
});

test.each([
  ["22P05", true],
  ["22003", true],
  ["54000", true],
  ["23514", true],
  ["23505", false],
  ["40001", false],
  ["08006", false],
  ["53100", false],
  ["42703", false],
])("of errors of PostgreSQL those about the values are for good: %s is %s", (code, expected) => {
  expect(isRefusedForGood(Object.assign(new Error("refused"), { code }))).toBe(expected);
});
