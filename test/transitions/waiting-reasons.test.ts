import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { setDraining } from "#core/db/scheduler-state.ts";
import { uuidV4 } from "#core/lib/ids.ts";
import { approveEvaluation } from "#core/services/transitions/approve.ts";
import { reconcileWaiting } from "#core/services/transitions/waiting.ts";
import { insertCacheOf } from "../support/rows.ts";
import { node, SYSTEM } from "./nodes.ts";
import {
  checkInvariants,
  claim,
  evaluate,
  evaluationState,
  startEvaluation,
  succeed,
  type World,
  withWorld,
} from "./support.ts";
import { connectWorker, disconnectWorker } from "./workers.ts";

let world: World;
beforeEach(async () => {
  world = await withWorld();
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

async function reasonOf(id: string) {
  const { waiting_reason } = await world.db
    .selectFrom("evaluation")
    .select("waiting_reason")
    .where("id", "=", id)
    .executeTakeFirstOrThrow();
  return waiting_reason;
}

const ARM = { system: "aarch64-linux" };
const connect = (options: Parameters<typeof connectWorker>[2] = {}) =>
  connectWorker(world.db, world.organizationId, options);

test("an evaluation of which nothing can be built waits, says for what, and goes on when a worker comes", async () => {
  const id = await evaluate(world, [
    node("a", { ...ARM, features: ["kvm"] }),
    node("b", { ...ARM, features: ["kvm"] }),
  ]);
  await connect({ architectures: [SYSTEM] });
  await reconcileWaiting(world.deps);
  expect(await evaluationState(world, id)).toBe("Waiting");
  expect(await reasonOf(id)).toEqual({
    kind: "workers",
    unmet: [{ architecture: "aarch64-linux", required_features: ["kvm"], build_count: 2 }],
    connected_workers: 1,
    available_architectures: [SYSTEM],
  });
  await checkInvariants(world.db);

  await connect({ architectures: [ARM.system], features: ["kvm"] });
  await reconcileWaiting(world.deps);
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Building", null]);
});

test("while a part of it goes on an evaluation builds, and says why the other part does not", async () => {
  const id = await evaluate(world, [node("here"), node("there", ARM)]);
  const here = await connect();
  await reconcileWaiting(world.deps);
  expect(await evaluationState(world, id)).toBe("Building");
  expect(await reasonOf(id)).toMatchObject({ kind: "workers", unmet: [{ build_count: 1 }] });

  const build = (await claim(world, { workerId: here })).get("here");
  await succeed(world, build as NonNullable<typeof build>);
  await reconcileWaiting(world.deps);
  expect(await evaluationState(world, id)).toBe("Waiting");

  // Whoever dispatches before the next look takes the reason back by that.
  await connect({ architectures: [ARM.system] });
  await claim(world, { systems: [ARM.system] });
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Building", null]);
  await checkInvariants(world.db);
});

test("a worker that goes, drains, or loses its registration is counted on no more", async () => {
  const id = await evaluate(world, [node("a")]);
  const look = async () => {
    await reconcileWaiting(world.deps);
    return await evaluationState(world, id);
  };
  const first = await connect();
  expect(await look()).toBe("Building");
  await disconnectWorker(world.db, first);
  expect(await look()).toBe("Waiting");
  const second = await connect();
  expect(await look()).toBe("Building");
  await sql`update worker_registration set enable_build = false where worker_id = ${second}`.execute(world.db);
  expect(await look()).toBe("Waiting");
  await sql`update worker_registration set enable_build = true, active = false`.execute(world.db);
  expect(await look()).toBe("Waiting");
  await connect({ draining: true });
  expect(await look()).toBe("Waiting");
  await connect({ places: 0 });
  expect(await look()).toBe("Waiting");
  await connect();
  expect(await look()).toBe("Building");
});

test("an evaluation that waits for a worker ends when its builds are made elsewhere", async () => {
  const id = await evaluate(world, [node("a", ARM)]);
  await reconcileWaiting(world.deps);
  expect(await evaluationState(world, id)).toBe("Waiting");
  const build = (await claim(world, { systems: [ARM.system] })).get("a");
  await sql`update evaluation set status = 4, waiting_reason = '{"kind": "workers"}'`.execute(world.db);
  await succeed(world, build as NonNullable<typeof build>);
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Completed", null]);
});

test("a queued evaluation waits for who evaluates it, and is queued again when such a worker comes", async () => {
  const { id, attemptId } = await startEvaluation(world);
  await sql`update attempt set finished_at = gradient_now(), outcome = 4 where id = ${attemptId}`.execute(world.db);
  await sql`update evaluation set status = 0 where id = ${id}`.execute(world.db);
  await connect({ fetch: false });
  await reconcileWaiting(world.deps);
  expect(await evaluationState(world, id)).toBe("Waiting");
  expect(await reasonOf(id)).toEqual({ kind: "eval_workers", capability: "fetch", connected_workers: 1 });

  await connect();
  expect(await reconcileWaiting(world.deps)).toBe(true);
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Queued", null]);
});

test("a draining instance says so, to what is queued and to what has something ready", async () => {
  await connect();
  const running = await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await claim(world);
  const ready = await evaluate(world, [node("c")]);
  await setDraining(world.db, true);
  await reconcileWaiting(world.deps);
  expect([await evaluationState(world, running), await reasonOf(running)]).toEqual(["Building", null]);
  expect([await evaluationState(world, ready), await reasonOf(ready)]).toEqual(["Waiting", { kind: "draining" }]);
  await setDraining(world.db, false);
  await reconcileWaiting(world.deps);
  expect([await evaluationState(world, ready), await reasonOf(ready)]).toEqual(["Building", null]);
});

test("a full cache is waited for like a missing one, and each is told apart", async () => {
  const { id, attemptId } = await startEvaluation(world);
  await sql`update attempt set finished_at = gradient_now(), outcome = 4 where id = ${attemptId}`.execute(world.db);
  await sql`update evaluation set status = 4, waiting_reason = '{"kind": "no_cache"}' where id = ${id}`.execute(
    world.db,
  );
  await connect();
  await sql`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
    values ('x', 1, 'x', 2000000000, 'none', 'nar/full')`.execute(world.db);
  await sql`
    insert into cache_path (cache_id, hash, store_path, nar_hash)
    values (${world.cacheId}, repeat('0', 32), repeat('0', 32) || '-x', 'x')`.execute(world.db);
  await sql`update cache set max_storage_gb = 2`.execute(world.db);
  await reconcileWaiting(world.deps);
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Waiting", { kind: "cache_storage_full" }]);
  await sql`update organization_cache set mode = 1`.execute(world.db);
  await reconcileWaiting(world.deps);
  expect(await reasonOf(id)).toEqual({ kind: "no_cache" });
  await insertCacheOf(world.db, world.organizationId);
  await reconcileWaiting(world.deps);
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Queued", null]);
});

test("reasons that others give are left alone", async () => {
  const { id, attemptId } = await startEvaluation(world);
  await sql`update attempt set finished_at = gradient_now(), outcome = 4 where id = ${attemptId}`.execute(world.db);
  const reason = { kind: "approval", pr_number: 7, pr_author: "eve" };
  await sql`
    update evaluation set status = 4, waiting_reason = ${JSON.stringify(reason)}::jsonb where id = ${id}`.execute(
    world.db,
  );
  await connect({ workerId: uuidV4() });
  await reconcileWaiting(world.deps);
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Waiting", reason]);
});

test("what a stranger proposed waits for a member, whatever workers there are, until one vouches for it", async () => {
  const { id, attemptId } = await startEvaluation(world);
  await sql`update attempt set finished_at = gradient_now(), outcome = 4 where id = ${attemptId}`.execute(world.db);
  await sql`update evaluation set status = 0, trusted = false where id = ${id}`.execute(world.db);
  await connect({ workerId: uuidV4() });
  await reconcileWaiting(world.deps);
  const reason = { kind: "approval", pr_number: null, pr_author: null };
  expect([await evaluationState(world, id), await reasonOf(id)]).toEqual(["Waiting", reason]);
  await reconcileWaiting(world.deps);
  expect(await reasonOf(id)).toEqual(reason);

  await approveEvaluation(world.deps, id);
  const { trusted } = await world.db
    .selectFrom("evaluation")
    .select("trusted")
    .where("id", "=", id)
    .executeTakeFirstOrThrow();
  expect([await evaluationState(world, id), await reasonOf(id), trusted]).toEqual(["Queued", null, true]);
});
