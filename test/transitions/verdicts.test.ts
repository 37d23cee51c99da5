import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { advanceEvaluation } from "#core/services/transitions/evaluation-progress.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import { insertEvaluationRow } from "../support/rows.ts";
import { node } from "./nodes.ts";
import {
  claimOne,
  type Evaluating,
  evaluationState,
  fail,
  finishEvaluation,
  ingest,
  succeed,
  takeEvaluation,
  type World,
  withWorld,
} from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await withWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

/** An evaluation of the one project, as a worker has it. */
async function begin(commit: string): Promise<Evaluating> {
  const { db, organizationId, projectId } = world;
  const id = await insertEvaluationRow(db, { organizationId, projectId, status: 0 });
  await db
    .updateTable("evaluation")
    .set({ commit_hash: commit.repeat(40) })
    .where("id", "=", id)
    .execute();
  return { id, attemptId: await takeEvaluation(world, id) };
}

async function run(commit: string, name: string, end: "succeeds" | "fails"): Promise<string> {
  const evaluation = await begin(commit);
  await ingest(world, evaluation, [node(name)], { [name]: name });
  await finishEvaluation(world, evaluation);
  const build = await claimOne(world, name);
  if (end === "succeeds") await succeed(world, build);
  else await fail(world, build, "permanent");
  return evaluation.id;
}

async function baseOf(evaluationId: string): Promise<unknown> {
  const { rows } = await sql<{ base_id: string | null; record: unknown }>`
    select base_id, record from evaluation_verdict where evaluation_id = ${evaluationId}`.execute(world.db);
  return rows[0];
}

test("the transaction that ends an evaluation notes what its verdict compares with", async () => {
  const first = await run("a", "one", "succeeds");
  expect([await evaluationState(world, first), await baseOf(first)]).toEqual([
    "Completed",
    { base_id: null, record: null },
  ]);
  const second = await run("b", "two", "fails");
  expect([await evaluationState(world, second), await baseOf(second)]).toEqual([
    "Failed",
    { base_id: first, record: null },
  ]);
});

test("a restart compares with what the restarted evaluation compares with: both are of one commit", async () => {
  const before = await run("c", "three", "succeeds");
  const failed = await run("d", "four", "fails");
  const again = await restartFailed(world.deps, failed, null);
  await fail(world, await claimOne(world, "four"), "permanent");
  expect([await evaluationState(world, again), await baseOf(again)]).toEqual([
    "Failed",
    { base_id: before, record: null },
  ]);
});

test("an aborted evaluation is one that no verdict compares with", async () => {
  const good = await run("e", "five", "succeeds");
  const { id } = await begin("f");
  await sql`update evaluation set status = 7, finished_at = gradient_now() where id = ${id}`.execute(world.db);
  await sql`update attempt set finished_at = gradient_now(), outcome = 4 where finished_at is null`.execute(world.db);
  const later = await run("0", "six", "succeeds");
  expect(await baseOf(later)).toEqual({ base_id: good, record: null });
});

test("what a worker tells of a flake's lock is kept with the evaluation, and goes along with a restart", async () => {
  const evaluation = await begin("1");
  const inputs = [{ name: "nixpkgs", source: "github:NixOS/nixpkgs", revision: "abc\ud800", last_modified: 7 }];
  await advanceEvaluation(world.deps, evaluation.attemptId, "fetching", { message: "m", author: "a", inputs });
  // A later word without it changes nothing.
  await advanceEvaluation(world.deps, evaluation.attemptId, "evaluating_flake", { message: "m", author: "a" });
  await ingest(world, evaluation, [node("seven")], { seven: "seven" });
  await finishEvaluation(world, evaluation);
  await fail(world, await claimOne(world, "seven"), "permanent");
  const again = await restartFailed(world.deps, evaluation.id, null);
  const rows = await world.db
    .selectFrom("evaluation")
    .select("locked_inputs")
    .where("id", "in", [evaluation.id, again])
    .execute();
  const kept = [{ name: "nixpkgs", source: "github:NixOS/nixpkgs", revision: "abc\ufffd", last_modified: 7 }];
  expect(rows.map((row) => row.locked_inputs)).toEqual([kept, kept]);
});
