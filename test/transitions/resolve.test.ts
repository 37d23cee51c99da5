import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { listCacheLogs } from "#core/db/cache-logs.ts";
import { parseDerivation } from "#core/nix/derivation.ts";
import { type StorePath, storePathBaseName } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { type AssignedBuild, assignBuilds } from "#core/services/transitions/assign.ts";
import { endBuild } from "#core/services/transitions/build-end.ts";
import { loseOutputs } from "#core/services/transitions/loss.ts";
import { resolveReady } from "#core/services/transitions/resolve.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import { insertCacheOf, insertOrganization, newId } from "../support/rows.ts";
import { DEFERRED, FLOATING, madePath, realNode } from "./floating-nodes.ts";
import {
  buildStates,
  checkInvariants,
  claim,
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
  world = await withWorld({ connectionsMax: 20 });
});
afterEach(async () => {
  try {
    await checkInvariants(world.db);
  } finally {
    await world[Symbol.asyncDispose]();
  }
});

async function claimNamed(name: string, where: World = world): Promise<AssignedBuild> {
  const build = (await claim(where)).get(name);
  if (!build) throw new Error(`${name} was not given out`);
  return build;
}

/** Reports that the build made these; they are uploaded before. */
async function made(build: AssignedBuild, outputs: Record<string, StorePath>, where: World = world): Promise<boolean> {
  for (const path of Object.values(outputs)) await putPath(where, storePathBaseName(path));
  return await endBuild(world.deps, build.attemptId, resultOf(outputs));
}

function resultOf(outputs: Record<string, StorePath>): BuildResult {
  const named = Object.entries(outputs).map(([name, path]) => ({ name, path }));
  return { kind: "build", status: "built", outputs: named, failure: null, build_ms: 1 };
}

async function outputOf(drvPath: string, where: World = world): Promise<string | null | undefined> {
  const row = await world.db
    .selectFrom("build_output")
    .innerJoin("build", "build.id", "build_output.build_id")
    .select("store_path")
    .where("organization_id", "=", where.organizationId)
    .where("drv_path", "=", drvPath)
    .where("build_output.name", "=", "out")
    .executeTakeFirst();
  return row?.store_path;
}

const realisations = () => world.db.selectFrom("realisation").selectAll().execute();

test("what is given out names its inputs by the paths that their builds left", async () => {
  const base = await realNode("base", FLOATING);
  const top = await realNode("top", DEFERRED, { needs: [base] });
  const id = await evaluate(world, [base, top]);
  const first = await claimNamed("base");
  // It needs nothing: Nix builds it as it is.
  expect(first.built_drv_path).toBe(first.drv_path);
  const path = madePath("base", "one");
  expect(await made(first, { out: path })).toBe(true);
  expect(await outputOf(base.drvPath)).toBe(storePathBaseName(path));

  const second = await claimNamed("top");
  const given = parseDerivation(second.aterm);
  expect(second.built_drv_path).not.toBe(second.drv_path);
  expect({ inputs: given.inputDerivations.size, sources: given.inputSources, args: given.args }).toEqual({
    inputs: 0,
    sources: [path],
    args: ["-c", `cat ${path} > $out`],
  });
  expect(second.inputs).toEqual([storePathBaseName(path)]);
  expect(await outputOf(top.drvPath)).toBe(storePathBaseName(given.outputs.get("out")?.path as StorePath));
  await succeed(world, second);
  expect(await evaluationState(world, id)).toBe("Completed");
  await sql`update organization set public = true`.execute(world.db);
  for (const derivation of [second.drv_path, second.built_drv_path]) {
    const logs = await listCacheLogs(world.db, { cacheId: world.cacheId, derivation, userId: null, limit: 5 });
    expect(logs.map(({ attempt_id }) => attempt_id)).toEqual([second.attemptId]);
  }
});

test("what is not resolved is given to nobody, however it was chosen", async () => {
  const base = await realNode("base", FLOATING);
  await evaluate(world, [base]);
  const { id: buildId } = await world.db.selectFrom("build").select("id").executeTakeFirstOrThrow();
  const choice = { buildId, workerId: world.workerId, deadlineMs: null, score: null };
  expect(await assignBuilds(world.deps, [choice])).toEqual([]);
  await resolveReady(world.deps);
  expect(await assignBuilds(world.deps, [choice])).toMatchObject([{ drv_path: base.drvPath }]);
});

test("where another derivation made the same, what rests on it is there without a worker", async () => {
  const build = async (note: string) => {
    const base = await realNode("base", FLOATING, { note });
    const middle = await realNode("middle", FLOATING, { needs: [base] });
    const top = await realNode("top", DEFERRED, { needs: [middle] });
    const id = await evaluate(world, [base, middle, top]);
    await made(await claimNamed("base"), { out: madePath("base", "same") });
    return { id, middle, top };
  };
  const first = await build("one");
  await made(await claimNamed("middle"), { out: madePath("middle", "same") });
  await succeed(world, await claimNamed("top"));

  const second = await build("two");
  await resolveReady(world.deps);
  expect(await evaluationState(world, second.id)).toBe("Completed");
  for (const name of ["middle", "top"] as const) {
    expect(second[name].drvPath).not.toBe(first[name].drvPath);
    expect(await outputOf(second[name].drvPath)).toBe(await outputOf(first[name].drvPath));
  }
  const built = await sql<{ count: number }>`
    select count(*)::int from attempt where build_id is not null`.execute(world.db);
  expect(built.rows).toEqual([{ count: 4 }]);
});

test("what one organization's builds left counts in another only through a cache that it reads", async () => {
  const nodes = async () => {
    const base = await realNode("base", FLOATING);
    return [base, await realNode("top", FLOATING, { needs: [base] })];
  };
  await evaluate(world, await nodes());
  const base = madePath("base", "ours");
  await made(await claimNamed("base"), { out: base });
  await made(await claimNamed("top"), { out: madePath("top", "ours") });

  const organizationId = await insertOrganization(world.db, { name: "others" });
  const others: World = { ...world, organizationId, cacheId: await insertCacheOf(world.db, organizationId) };
  // Having the path is not enough: nobody whom they believe says what it is.
  await putPath(others, storePathBaseName(madePath("top", "ours")));
  await evaluate(others, await nodes());
  const claimed = await claim(others, { organizationIds: [organizationId] });
  expect([...claimed.keys()]).toEqual(["base"]);
  await made(claimed.get("base") as AssignedBuild, { out: base }, others);
  // The same derivation as theirs by now.
  expect([...(await claim(others, { organizationIds: [organizationId] })).keys()]).toEqual(["top"]);

  const third = await insertOrganization(world.db, { name: "friends" });
  const friends: World = { ...world, organizationId: third, cacheId: await insertCacheOf(world.db, third) };
  await sql`
    insert into organization_cache (id, organization_id, cache_id, mode)
    values (${newId()}, ${third}, ${world.cacheId}, 1)`.execute(world.db);
  await evaluate(friends, await nodes());
  expect(await claim(friends, { organizationIds: [third] })).toEqual(new Map());
  expect(await outputOf((await nodes())[1]?.drvPath ?? "", friends)).toBe(storePathBaseName(madePath("top", "ours")));
});

test("an evaluation that stopped at what a cache knows finds it by what the worker tells", async () => {
  const base = await realNode("base", FLOATING);
  await evaluate(world, [base]);
  await made(await claimNamed("base"), { out: madePath("base", "one") });

  const organizationId = await insertOrganization(world.db, { name: "others" });
  await sql`
    insert into organization_cache (id, organization_id, cache_id, mode)
    values (${newId()}, ${organizationId}, ${world.cacheId}, 0)`.execute(world.db);
  const others: World = { ...world, organizationId };
  const top = await realNode("top", DEFERRED, { needs: [base] });
  await evaluate(others, [await realNode("base", FLOATING, { pruned: true }), top]);
  const build = (await claim(others, { organizationIds: [organizationId] })).get("top");
  expect(build?.inputs).toEqual([storePathBaseName(madePath("base", "one"))]);
  // A worker that cannot tell has nothing to prune by.
  const mute = await realNode("mute", FLOATING, { pruned: true, hashed: false });
  const evaluation = await startEvaluation(others);
  await expect(ingest(others, evaluation, [mute])).rejects.toMatchObject({ code: "conflict" });
  await finishEvaluation(others, evaluation);
});

test("what comes out otherwise when it is built again is what its dependents get", async () => {
  const base = await realNode("base", FLOATING);
  const tool = await realNode("tool", FLOATING, { note: "tool" });
  const top = await realNode("top", DEFERRED, { needs: [base, tool] });
  await evaluate(world, [base, tool, top]);
  const claims = await claim(world);
  await made(claims.get("base") as AssignedBuild, { out: madePath("base", "one") });
  await made(claims.get("tool") as AssignedBuild, { out: madePath("tool", "one") });
  const top1 = await claimNamed("top");
  await fail(world, top1, "transient");

  await losePath(world.db, storePathBaseName(madePath("base", "one")));
  await loseOutputs(world.deps, [madePath("base", "one")]);
  await passTime(world);
  await made(await claimNamed("base"), { out: madePath("base", "two") });
  await sql`update build set status = 1, retry_at = null, ready_at = gradient_now() where status = 8`.execute(world.db);
  const top2 = await claimNamed("top");
  expect(top2.built_drv_path).not.toBe(top1.built_drv_path);
  expect(parseDerivation(top2.aterm).inputSources).toEqual(
    [madePath("base", "two"), madePath("tool", "one")].toSorted(),
  );
  await succeed(world, top2);
});

test("a worker that does not say where an output is, or names another's, has not built it", async () => {
  await evaluate(world, [await realNode("base", FLOATING, { outputs: ["doc", "out"] })]);
  const [out, doc] = [madePath("base", "one"), madePath("base-doc", "one")];
  const refused = [{ out }, { out, doc: madePath("other-doc", "one") }, { out: doc, doc: out }] as const;
  for (const outputs of refused) {
    await made(await claimNamed("base"), outputs);
    expect(await buildStates(world)).toEqual({ base: "FailedTransient" });
    await sql`update build set status = 1, retry_at = null, transient_failures = 0, ready_at = gradient_now()`.execute(
      world.db,
    );
  }
  const { message } = await world.db
    .selectFrom("attempt")
    .select("message")
    .where("build_id", "is not", null)
    .orderBy("assigned_at", "desc")
    .limit(1)
    .executeTakeFirstOrThrow();
  expect(message).toMatch(/^the worker reported success, but not where the output (?:doc|out) is$/);
  // What it names must have come, too.
  await endBuild(
    world.deps,
    (await claimNamed("base")).attemptId,
    resultOf({ out, doc: madePath("base-doc", "never") }),
  );
  expect(await buildStates(world)).toEqual({ base: "FailedTransient" });
  await sql`update build set status = 1, retry_at = null, ready_at = gradient_now()`.execute(world.db);
  await made(await claimNamed("base"), { out, doc });
  expect(await buildStates(world)).toEqual({ base: "Completed" });
});

test("a fixed output whose build needs such an output is resolved too", async () => {
  const base = await realNode("base", FLOATING);
  const path = madePath("source", "fixed");
  const hash = "a".repeat(64);
  const fixed = await realNode("source", { path, hashAlgorithm: "sha256", hash }, { needs: [base] });
  await evaluate(world, [base, fixed]);
  await made(await claimNamed("base"), { out: madePath("base", "one") });
  const build = await claimNamed("source");
  const { args, outputs } = parseDerivation(build.aterm);
  expect(args).toEqual(["-c", `cat ${madePath("base", "one")} > $out`]);
  expect(outputs.get("out")).toEqual({ path, hashAlgorithm: "sha256", hash });
  await succeed(world, build);
});

test("one that failed can be restarted", async () => {
  const id = await evaluate(world, [await realNode("base", FLOATING)]);
  await fail(world, await claimNamed("base"), "permanent");
  expect(await evaluationState(world, id)).toBe("Failed");
  await restartFailed(world.deps, id, null);
  await made(await claimNamed("base"), { out: madePath("base", "one") });
  expect(await buildStates(world)).toEqual({ base: "Completed" });
});

test("caches keep what they say of an output for as long as they have it", async () => {
  const base = await realNode("base", FLOATING);
  const top = await realNode("top", FLOATING, { needs: [base] });
  await evaluate(world, [base, top]);
  const [one, two] = [madePath("base", "one"), madePath("base", "two")];
  await made(await claimNamed("base"), { out: one });
  await made(await claimNamed("top"), { out: madePath("top", "one") });
  // `base` is its own resolution, `top` is known by two derivations.
  expect(await realisations()).toHaveLength(3);
  const ofBase = async () => (await realisations()).filter((row) => row.path_hash !== pathHash(madePath("top", "one")));
  expect((await ofBase()).map((row) => row.path_hash)).toEqual([pathHash(one)]);

  await losePath(world.db, storePathBaseName(one));
  await loseOutputs(world.deps, [one]);
  await evaluate(world, [base]);
  await made(await claimNamed("base"), { out: two });
  expect((await ofBase()).map((row) => row.path_hash)).toEqual([pathHash(two)]);

  await sql`delete from cache_path where store_path = ${storePathBaseName(two)}`.execute(world.db);
  expect(await ofBase()).toEqual([]);
  await loseOutputs(world.deps, [two]);
});

test("a build whose inputs have no recorded places fails with what is missing, and others go on", async () => {
  const base = await realNode("base", FLOATING);
  const top = await realNode("top", DEFERRED, { needs: [base] });
  const beside = await realNode("beside", FLOATING);
  const id = await evaluate(world, [base, top, beside]);
  const claims = await claim(world);
  await made(claims.get("base") as AssignedBuild, { out: madePath("base", "one") });
  await sql`update build_output set store_path = null where store_path is not null`.execute(world.db);
  await made(claims.get("beside") as AssignedBuild, { out: madePath("beside", "one") });
  await resolveReady(world.deps);
  expect(await buildStates(world)).toEqual({ base: "Completed", beside: "Completed", top: "FailedPermanent" });
  expect(await evaluationState(world, id)).toBe("Failed");
  const messages = await world.db.selectFrom("evaluation_message").select("message").execute();
  expect(messages).toEqual([
    { message: expect.stringMatching(/top\.drv: it cannot be built: .*where .*base\.drv!out/) },
  ]);
});

test("an output that no path can be named after fails its own build, and holds up nobody", async () => {
  const base = await realNode("base", FLOATING);
  const long = "l".repeat(200);
  const top = await realNode(long, DEFERRED, { needs: [base], outputs: ["documentation", "out"] });
  const beside = await realNode("beside", DEFERRED, { needs: [base] });
  const id = await evaluate(world, [base, top, beside]);
  await made(await claimNamed("base"), { out: madePath("base", "one") });
  await claimNamed("beside");
  expect(await buildStates(world)).toMatchObject({ beside: "Building", [long]: "FailedPermanent" });
  const messages = await world.db.selectFrom("evaluation_message").select(["evaluation_id", "message"]).execute();
  expect(messages).toEqual([
    { evaluation_id: id, message: expect.stringMatching(/it cannot be built: .*cannot name a store path/) },
  ]);
});

function pathHash(path: StorePath): string {
  return storePathBaseName(path).slice(0, 32);
}
