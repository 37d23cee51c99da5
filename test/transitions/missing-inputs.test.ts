import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import { parseStorePathBaseName, type StorePath } from "#core/nix/store-path.ts";
import { healMissingInputs } from "#core/services/missing-inputs.ts";
import { tendRecoveries } from "#core/services/transitions/recovery.ts";
import { type HubBench, withHub } from "../support/hub.ts";
import { newId } from "../support/rows.ts";
import { node, outputPathOf } from "./nodes.ts";
import { buildStates, checkInvariants, claimOne, evaluate, fail, putPath, succeed, type World } from "./support.ts";

let bench: HubBench;
let world: World;
beforeEach(async () => {
  bench = await withHub();
  const { db, deps, organizationId, projectId } = bench;
  const { id: cacheId } = await db.selectFrom("cache").select("id").where("kind", "=", 0).executeTakeFirstOrThrow();
  const dispose = () => bench[Symbol.asyncDispose]();
  world = {
    db,
    deps,
    organizationId,
    projectId,
    cacheId,
    workerId: crypto.randomUUID(),
    notified: [],
    [Symbol.asyncDispose]: dispose,
  };
});
afterEach(async () => {
  try {
    await checkInvariants(world.db);
  } finally {
    await world[Symbol.asyncDispose]();
  }
});

function pathOf(name: string): StorePath {
  return parseStorePathBaseName(outputPathOf(name)) as StorePath;
}

/** Puts an object where the NAR of the output is said to be. */
async function storeObject(name: string): Promise<void> {
  await bench.deps.blobs.put(`nar/${outputPathOf(name)}/1`, streamOf(new Uint8Array([1])));
  const key = `nar/${outputPathOf(name)}/1`;
  await sql`update nar set object_key = ${key} where object_key = ${`nar/${outputPathOf(name)}`}`.execute(world.db);
}

async function heal(buildId: string, ...names: string[]): Promise<void> {
  const { organizationId } = world;
  await healMissingInputs(
    bench.deps,
    { organizationId, buildId },
    names.map((name) => pathOf(name)),
  );
}

test("an input whose object is gone is built again at once, and the build waits for it", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await succeed(world, await claimOne(world, "a"));
  const running = await claimOne(world, "b");

  await heal(running.id, "a");
  await fail(world, running, "inputs_unavailable");

  expect(await buildStates(world)).toEqual({ a: "Queued", b: "FailedTransient" });
});

test("an input that is there is not taken away, whatever a worker says", async () => {
  await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  await succeed(world, await claimOne(world, "a"));
  await storeObject("a");
  const running = await claimOne(world, "b");

  await heal(running.id, "a", "never-heard-of");
  await fail(world, running, "aborted");

  expect(await buildStates(world)).toEqual({ a: "Completed", b: "Queued" });
});

test("an input that refers to what nobody knows how to make is not whole any more, and is recovered", async () => {
  for (const name of ["deep", "middle"]) await putPath(world, outputPathOf(name));
  await storeObject("middle");
  await sql`update cache_path set "references" = ${[outputPathOf("deep")]}
    where store_path = ${outputPathOf("middle")}`.execute(world.db);
  await evaluate(world, [node("middle", { pruned: true }), node("top", { needs: ["middle"] })]);
  const running = await claimOne(world, "top");

  await heal(running.id, "deep");
  await fail(world, running, "aborted");

  expect(await buildStates(world)).toEqual({ middle: "Substituted", top: "Created" });
  const needs = await world.db.selectFrom("recovery_need").select("build_id").execute();
  expect(needs).toHaveLength(1);
  const left = await world.db.selectFrom("cache_path").select("store_path").execute();
  expect(left.map(({ store_path }) => store_path)).toEqual([outputPathOf("deep")]);
});

test("a source that is gone is brought back by an evaluation, and the build is not tried in vain", async () => {
  const source = outputPathOf("source");
  const top = { ...node("top"), sources: [source] };
  await putPath(world, source);
  const id = await evaluate(world, [top]);
  const running = await claimOne(world, "top");

  await heal(running.id, "source");
  await fail(world, running, "inputs_unavailable");
  await tendRecoveries(world.deps);

  const recovery = world.db.selectFrom("evaluation").select(["id", "kind"]).where("recovers_id", "=", id);
  expect(await recovery.execute()).toMatchObject([{ kind: 2 }]);
  const retry = world.db.selectFrom("build").select(sql<boolean>`retry_at > now() + interval '50 seconds'`.as("held"));
  expect(await retry.executeTakeFirstOrThrow()).toEqual({ held: true });
  await sql`delete from cache_path; delete from nar`.execute(world.db);
  await putPath(world, source);
  await tendRecoveries(world.deps);
  expect(await retry.executeTakeFirstOrThrow()).toEqual({ held: false });
  expect(await world.db.selectFrom("recovery_need").select("build_id").execute()).toEqual([]);
});

test("a path that an upstream has lost is recovered; one of an upstream that is silent is not lost", async () => {
  let status = 500;
  const server = createServer((_, response) => void response.writeHead(status).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const upstreamId = newId();
  await world.db
    .insertInto("cache_upstream")
    .values({
      id: upstreamId,
      cache_id: world.cacheId,
      kind: 2,
      display_name: "elsewhere",
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      public_keys: [],
    })
    .execute();
  const path = outputPathOf("a");
  await world.db
    .insertInto("upstream_path")
    .values({
      upstream_id: upstreamId,
      hash: path.slice(0, 32),
      found: true,
      store_path: path,
      url: "nar/x",
      compression: "none",
      nar_hash: new Uint8Array(32),
      nar_size: 1,
      references: [],
    })
    .execute();
  await evaluate(world, [node("a", { pruned: true }), node("b", { needs: ["a"] })]);
  const running = await claimOne(world, "b");

  await heal(running.id, "a");
  expect(await world.db.selectFrom("recovery_need").select("build_id").execute()).toEqual([]);
  status = 404;
  await heal(running.id, "a");
  await fail(world, running, "aborted");

  expect(await buildStates(world)).toEqual({ a: "Substituted", b: "Created" });
  expect(await world.db.selectFrom("recovery_need").select("build_id").execute()).toHaveLength(1);
  await new Promise((resolve) => server.close(resolve));
});
