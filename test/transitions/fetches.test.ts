import { afterAll, beforeAll, expect, test } from "vitest";
import { listQueuedEvaluations } from "#core/db/evaluation-claims.ts";
import type { EvaluationPart } from "#core/domain/scheduling/eligibility.ts";
import { AttemptKind, evaluationStatusName } from "#core/domain/states.ts";
import type { EvaluationResult } from "#core/protocol/worker-messages.ts";
import { assignEvaluations } from "#core/services/transitions/assign.ts";
import { endEvaluationAttempt } from "#core/services/transitions/evaluation-progress.ts";
import { insertEvaluationRow, newId } from "../support/rows.ts";
import { type World, withWorld } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await withWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

const PATH = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-source";
const SOURCE = { reference: `path:${PATH}?narHash=sha256-x`, wrapped: false, paths: [PATH] };
const FETCHED = { kind: "evaluation", status: "completed", failure: null, source: SOURCE } as EvaluationResult;

async function queued(): Promise<string> {
  const { organizationId, projectId } = world;
  return await insertEvaluationRow(world.db, { organizationId, projectId, status: 0 });
}

/** The evaluation as it was given to a worker for this part, or undefined. */
async function take(evaluationId: string, part: EvaluationPart) {
  const claim = { evaluationId, part, workerId: world.workerId, deadlineMs: null };
  return (await assignEvaluations(world.deps, [claim]))[0];
}

async function end(attemptId: string | undefined, result: EvaluationResult): Promise<boolean> {
  if (attemptId === undefined) throw new Error("it was not given out");
  return await endEvaluationAttempt(world.deps, attemptId, result, newId());
}

async function stateOf(id: string) {
  const columns = ["status", "source", "failure"] as const;
  const row = await world.db.selectFrom("evaluation").select(columns).where("id", "=", id).executeTakeFirstOrThrow();
  const fetched = (await listQueuedEvaluations(world.db, [world.organizationId], 100)).find((one) => one.id === id);
  return { ...row, status: evaluationStatusName(row.status), fetched: fetched?.fetched };
}

test("what one worker fetched is queued again, for one that evaluates it", async () => {
  const id = await queued();
  expect(await take(id, "eval"), "nothing is there to evaluate").toBeUndefined();
  const fetch = await take(id, "fetch");
  expect(fetch).toMatchObject({ part: "fetch", source: null, input_overrides: [] });
  expect(await stateOf(id)).toMatchObject({ status: "Fetching" });

  expect(await end(fetch?.attemptId, FETCHED)).toBe(true);
  expect(await stateOf(id)).toEqual({ status: "Queued", source: SOURCE, failure: null, fetched: true });
  for (const part of ["whole", "fetch"] as const) expect(await take(id, part), part).toBeUndefined();
  const evaluation = await take(id, "eval");
  expect(evaluation).toMatchObject({ part: "eval", source: SOURCE });
  expect(await stateOf(id)).toMatchObject({ status: "EvaluatingFlake" });

  const attempts = world.db.selectFrom("attempt").select("kind").where("evaluation_id", "=", id).orderBy("id");
  expect((await attempts.execute()).map(({ kind }) => kind)).toEqual([AttemptKind.Fetch, AttemptKind.Evaluation]);
});

test("a source that went meanwhile is fetched again, three times in all", async () => {
  const id = await queued();
  const gone: EvaluationResult = {
    kind: "evaluation",
    status: "failed",
    failure: { class: "inputs_unavailable", message: `${PATH} is in no cache` },
  };
  for (const [number, after] of [
    [1, "Queued"],
    [2, "Queued"],
    [3, "Failed"],
  ] as const) {
    await end((await take(id, "fetch"))?.attemptId, FETCHED);
    await end((await take(id, "eval"))?.attemptId, gone);
    expect(await stateOf(id), `after fetch ${number}`).toMatchObject({ status: after });
  }
  expect(await stateOf(id)).toMatchObject({ failure: `${PATH} is in no cache` });
});

test("a fetch that fails is the evaluation's failure, and one that its worker gave up is done by another", async () => {
  const [broken, stopped] = [await queued(), await queued()];
  const failure = (cause: "permanent" | "aborted"): EvaluationResult => ({
    kind: "evaluation",
    status: "failed",
    failure: { class: cause, message: "it cannot be fetched" },
  });
  await end((await take(broken, "fetch"))?.attemptId, failure("permanent"));
  await end((await take(stopped, "fetch"))?.attemptId, failure("aborted"));

  expect(await stateOf(broken)).toMatchObject({ status: "Failed", failure: "it cannot be fetched" });
  expect(await stateOf(stopped)).toMatchObject({ status: "Queued", source: null, fetched: false });
});

test("a late word of a fetch whose lease has ended changes nothing", async () => {
  const id = await queued();
  const fetch = await take(id, "fetch");
  await end(fetch?.attemptId, FETCHED);
  expect(await end(fetch?.attemptId, { ...FETCHED, source: undefined } as never)).toBe(false);
  expect(await stateOf(id)).toMatchObject({ source: SOURCE, fetched: true });
});
