import { afterEach, beforeEach, expect, test } from "vitest";
import { tidyTransitions } from "#core/services/transitions/leases.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import { node } from "./nodes.ts";
import { claimOne, evaluate, evaluationState, fail, startEvaluation, type World, withWorld } from "./support.ts";

let world: World;

beforeEach(async () => {
  world = await withWorld();
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

test("an evaluation that waits for a cache is queued once its organization writes to one, and not before", async () => {
  const { id: evaluationId } = await startEvaluation(world);
  const { db } = world;
  const waiting = { status: 4, waiting_reason: JSON.stringify({ kind: "no_cache" }) };
  await db.updateTable("evaluation").set(waiting).where("id", "=", evaluationId).execute();
  await db.updateTable("organization_cache").set({ mode: 1 }).execute();

  await tidyTransitions(world.deps);
  expect(await evaluationState(world, evaluationId)).toBe("Waiting");

  await db.updateTable("organization_cache").set({ mode: 0 }).execute();
  await tidyTransitions(world.deps);
  expect(await evaluationState(world, evaluationId)).toBe("Queued");
});

test("a restart is refused while the project is being evaluated", async () => {
  const failed = await evaluate(world, [node("broken")]);
  await fail(world, await claimOne(world, "broken"), "permanent");
  const { db } = world;
  const { id: running } = await startEvaluation(world);
  const { project_id } = await db
    .selectFrom("evaluation")
    .select("project_id")
    .where("id", "=", failed)
    .executeTakeFirstOrThrow();
  await db.updateTable("evaluation").set({ project_id }).where("id", "=", running).execute();

  await expect(restartFailed(world.deps, failed, null)).rejects.toThrow(running);
});
