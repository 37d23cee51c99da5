import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { markAttemptsStarted } from "#core/db/attempts.ts";
import { lockToStop } from "#core/db/evaluation-stop.ts";
import { databaseNow } from "#core/db/time.ts";
import { EvaluationStatus } from "#core/domain/states.ts";
import { uuidV4 } from "#core/lib/ids.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { abortEvaluation, stopEvaluation } from "#core/services/transitions/abort.ts";
import { endBuild } from "#core/services/transitions/build-end.ts";
import { transition } from "#core/services/transitions/deps.ts";
import { endEvaluationAttempt, recordEvaluationMessage } from "#core/services/transitions/evaluation-progress.ts";
import {
  expireLeases,
  prolongLeases,
  reattachWorker,
  returnAttempt,
  tidyTransitions,
} from "#core/services/transitions/leases.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import { joinServers } from "#core/services/transitions/servers.ts";
import { insertOrganization, newId } from "../support/rows.ts";
import { node, outputPathOf } from "./nodes.ts";
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
  losePath,
  passTime,
  provenWorker,
  putPath,
  startEvaluation,
  succeed,
  takeEvaluation,
  takeEvaluations,
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

test("a success makes exactly those ready whose last needed output it was", async () => {
  await evaluate(world, [
    node("a", { outputs: ["out", "dev"] }),
    node("other"),
    node("by-out", { needs: ["a"] }),
    node("by-dev", { needs: ["a:dev", "a:out"] }),
    node("by-both", { needs: ["a", "other"] }),
    node("above", { needs: ["by-out"] }),
  ]);
  await succeed(world, await claimOne(world, "a"));
  expect(await buildStates(world)).toEqual({
    a: "Completed",
    above: "Created",
    "by-both": "Created",
    "by-dev": "Queued",
    "by-out": "Queued",
    other: "Queued",
  });
});

test("outputs that were there already make a build substituted, not built", async () => {
  await evaluate(world, [node("a")]);
  const build = await claimOne(world, "a");
  const result: BuildResult = { kind: "build", status: "already_valid", outputs: [], failure: null, build_ms: 0 };
  expect(await endBuild(world.deps, build.attemptId, result)).toBe(true);
  expect(await buildStates(world)).toEqual({ a: "FailedTransient" });
  const { message } = await world.db
    .selectFrom("attempt")
    .select("message")
    .where("id", "=", build.attemptId)
    .executeTakeFirstOrThrow();
  expect(message).toContain("were not uploaded");

  await passTime(world);
  await tidyTransitions(world.deps);
  const again = await claimOne(world, "a");
  await putPath(world, outputPathOf("a"));
  await endBuild(world.deps, again.attemptId, result);
  expect(await buildStates(world)).toEqual({ a: "Substituted" });
});

test("a failure takes everything that waits for it with it, also what only another evaluation has", async () => {
  const shared = [node("a"), node("ok"), node("b", { needs: ["a"] })];
  const first = await evaluate(world, shared);
  const second = await evaluate(world, [...shared, node("c", { needs: ["b"] }), node("d", { needs: ["ok"] })]);
  await fail(world, await claimOne(world, "a"), "permanent");
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({
    a: "FailedPermanent",
    b: "DependencyFailed",
    c: "DependencyFailed",
    d: "Created",
    ok: "Queued",
  });
  await succeed(world, await claimOne(world, "ok"));
  expect(await evaluationState(world, first)).toBe("Failed");
  expect(await evaluationState(world, second)).toBe("Building");
  await succeed(world, await claimOne(world, "d"));
  expect(await evaluationState(world, second)).toBe("Failed");
});

test("a transient failure waits for its pause, is queued again, and fails for good at the limit", async () => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  for (let times = 1; times <= 2; times++) {
    await fail(world, await claimOne(world, "a"), "transient");
    await checkInvariants(world.db);
    expect(await buildStates(world)).toEqual({ a: "FailedTransient", b: "Created" });
    await tidyTransitions(world.deps);
    expect((await claim(world)).size).toBe(0);
    await passTime(world);
    await tidyTransitions(world.deps);
    expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created" });
  }
  await fail(world, await claimOne(world, "a"), "disk_full");
  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "DependencyFailed" });
  expect(await evaluationState(world, id)).toBe("Failed");
});

test("what a stopping worker hands back counts as no failure, however often", async () => {
  const evaluation = await startEvaluation(world);
  const aborted = { class: "aborted", message: "the worker is stopping" } as const;
  const result = { kind: "evaluation", status: "failed", failure: aborted } as const;
  await endEvaluationAttempt(world.deps, evaluation.attemptId, result, newId());
  expect(await evaluationState(world, evaluation.id)).toBe("Queued");
  const attemptId = await takeEvaluation(world, evaluation.id);
  await ingest(world, { id: evaluation.id, attemptId }, [node("a")]);
  await finishEvaluation(world, { id: evaluation.id, attemptId });
  for (let times = 0; times < 12; times++) {
    await fail(world, await claimOne(world, "a"), "aborted");
    expect(await buildStates(world)).toEqual({ a: "Queued" });
  }
  for (let times = 0; times < 12; times++) {
    const { attemptId } = await claimOne(world, "a");
    await returnAttempt(world.deps, provenWorker(world), attemptId, "no room");
    expect(await buildStates(world)).toEqual({ a: "Queued" });
  }
});

test("claims respect organizations, systems and features, and everyone builds `builtin`", async () => {
  await evaluate(world, [
    node("plain"),
    node("arm", { system: "aarch64-linux" }),
    node("kvm", { features: ["kvm", "big-parallel"] }),
    node("fetch", { system: "builtin" }),
  ]);
  const stranger = await insertOrganization(world.db, { name: "other" });
  expect((await claim(world, { organizationIds: [stranger] })).size).toBe(0);
  expect([...(await claim(world, { systems: ["riscv64-linux"] })).keys()]).toEqual(["fetch"]);
  expect([...(await claim(world, { features: ["kvm"] })).keys()]).toEqual(["plain"]);
  const rest = await claim(world, { systems: ["aarch64-linux"], features: ["kvm", "big-parallel", "more"] });
  expect([...rest.keys()]).toEqual(["arm"]);
  expect([...(await claim(world, { features: ["big-parallel", "kvm"] })).keys()]).toEqual(["kvm"]);
});

test("a claimed build comes with the outputs it needs", async () => {
  await evaluate(world, [node("a", { outputs: ["out", "dev"] }), node("b", { needs: ["a:dev"] })]);
  await succeed(world, await claimOne(world, "a"));
  expect((await claimOne(world, "b")).inputs).toEqual([outputPathOf("a", "dev")]);
});

test("a late result under an ended lease changes nothing", async () => {
  await evaluate(world, [node("a")]);
  const late = await claimOne(world, "a");
  await passTime(world, [late.attemptId]);
  await expireLeases(world.deps);
  const now = await claimOne(world, "a");
  expect(await succeed(world, late)).toBe(false);
  expect(await fail(world, late, "permanent")).toBe(false);
  expect(await buildStates(world)).toEqual({ a: "Building" });
  expect(await succeed(world, now)).toBe(true);
  expect(await fail(world, now, "permanent")).toBe(false);
  expect(await buildStates(world)).toEqual({ a: "Completed" });

  const evaluation = await startEvaluation(world);
  await passTime(world, [evaluation.attemptId]);
  await expireLeases(world.deps);
  expect(await ingest(world, evaluation, [node("b")])).toBe(false);
  expect(await finishEvaluation(world, evaluation)).toBe(false);
  expect(await evaluationState(world, evaluation.id)).toBe("Queued");
  expect(await buildStates(world)).toEqual({ a: "Completed" });
});

test("only leases that ran out are taken back; the worker's word, or the server's restart, prolongs them", async () => {
  await evaluate(world, [node("a")]);
  const build = await claimOne(world, "a");
  await expireLeases(world.deps);
  expect(await buildStates(world)).toEqual({ a: "Building" });
  const strangers = [
    { ...provenWorker(world), workerId: uuidV4() },
    { ...provenWorker(world), organizationIds: [newId()] },
  ];
  await passTime(world, [build.attemptId]);
  for (const stranger of strangers) await prolongLeases(world.deps, stranger);
  const open = world.db.selectFrom("attempt").select("id").where("finished_at", "is", null);
  expect(await open.where("lease_expires_at", ">", databaseNow).execute()).toEqual([]);
  await joinServers({ ...world.deps, server: { id: newId(), storage: null } });
  await expireLeases(world.deps);
  expect(await buildStates(world)).toEqual({ a: "Building" });
  await passTime(world, [build.attemptId]);
  await prolongLeases(world.deps, provenWorker(world));
  await expireLeases(world.deps);
  expect(await buildStates(world)).toEqual({ a: "Building" });
  expect(await succeed(world, build)).toBe(true);
});

test("a worker that connects frees at once what it does not name, and is told what it still holds", async () => {
  await evaluate(world, [node("a"), node("b"), node("c")]);
  const a = await claimOne(world, "a");
  const b = await claimOne(world, "b");
  const other = uuidV4();
  const foreign = (await claim(world, { workerId: other })).get("c");
  const stranger = { ...provenWorker(world), organizationIds: [newId()] };
  expect(await reattachWorker(world.deps, stranger, [a.attemptId])).toEqual([]);
  await returnAttempt(world.deps, stranger, b.attemptId, "not mine");
  expect(await buildStates(world)).toEqual({ a: "Building", b: "Building", c: "Building" });
  const held = await reattachWorker(world.deps, provenWorker(world), [a.attemptId, foreign?.attemptId ?? "", newId()]);
  expect(held.map(({ id }) => id)).toEqual([a.attemptId]);
  expect(await buildStates(world)).toEqual({ a: "Building", b: "Queued", c: "Building" });
  expect(await succeed(world, b)).toBe(false);
});

test("what ten workers were lost over fails, and may be restarted", async () => {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] })]);
  const lose = async () => {
    const { attemptId } = await claimOne(world, "a");
    await markAttemptsStarted(world.db, [{ id: attemptId, runningMs: 1_000 }]);
    await passTime(world, [attemptId]);
    await expireLeases(world.deps);
    await checkInvariants(world.db);
  };
  for (let times = 0; times < 9; times++) await lose();
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created" });
  await lose();
  expect(await buildStates(world)).toEqual({ a: "FailedPermanent", b: "DependencyFailed" });
  expect(await evaluationState(world, id)).toBe("Failed");
  await restartFailed(world.deps, id, null);
  await lose();
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created" });
});

test("what stood behind other work of lost workers is offered again, and given up after a hundred times", async () => {
  const id = await evaluate(world, [node("a")]);
  const lose = async () => {
    const { attemptId } = await claimOne(world, "a");
    await passTime(world, [attemptId]);
    await expireLeases(world.deps);
  };
  for (let times = 0; times < 12; times++) await lose();
  expect(await buildStates(world)).toEqual({ a: "Queued" });
  await sql`
    insert into attempt (id, kind, organization_id, build_id, worker_id, lease_expires_at, finished_at, outcome, reason)
    select gen_random_uuid(), kind, organization_id, build_id, worker_id, lease_expires_at, finished_at, outcome, reason
    from (select * from attempt where build_id is not null limit 1) one, generate_series(1, 87)`.execute(world.db);
  expect(await buildStates(world)).toEqual({ a: "Queued" });
  await lose();
  expect(await buildStates(world)).toEqual({ a: "FailedPermanent" });
  expect(await evaluationState(world, id)).toBe("Failed");
});

test("an evaluation that ten workers were lost over fails, and says so", async () => {
  const { id, attemptId } = await startEvaluation(world);
  let open = attemptId;
  for (let times = 1; times <= 10; times++) {
    await passTime(world, [open]);
    await expireLeases(world.deps);
    if (times < 10) open = await takeEvaluation(world, id);
  }
  expect(await evaluationState(world, id)).toBe("Failed");
  const message = await world.db.selectFrom("evaluation_message").selectAll().executeTakeFirstOrThrow();
  expect(message).toMatchObject({ level: 0, message: "10 workers were lost while they evaluated this" });
  expect((await takeEvaluations(world, uuidV4())).size).toBe(0);
});

test("links keep the outcome and the attempt that the evaluation saw; a later retry does not change them", async () => {
  const graph = [node("a"), node("b"), node("c", { needs: ["b"] })];
  const first = await evaluate(world, graph);
  const a = await claimOne(world, "a");
  await succeed(world, a);
  const b = await claimOne(world, "b");
  expect((await frozenLinks(world, first)).get("a")).toEqual({ outcome: null, attemptId: null });
  await fail(world, b, "timeout");
  const seen = await frozenLinks(world, first);
  expect(Object.fromEntries(seen)).toEqual({
    a: { outcome: "Completed", attemptId: a.attemptId },
    b: { outcome: "FailedTimeout", attemptId: b.attemptId },
    c: { outcome: "DependencyFailed", attemptId: null },
  });
  const second = await evaluate(world, graph);
  for (const name of ["b", "c"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, second)).toBe("Completed");
  expect(await evaluationState(world, first)).toBe("Failed");
  expect(await frozenLinks(world, first)).toEqual(seen);
});

test("an abort frees what that evaluation alone needed, tells the holders, and leaves others the rest", async () => {
  const shared = [node("shared"), node("shared-top", { needs: ["shared"] })];
  const first = await evaluate(world, [...shared, node("own"), node("own-top", { needs: ["own", "shared"] })]);
  const second = await evaluate(world, shared);
  const own = await claimOne(world, "own");
  const kept = await claimOne(world, "shared");
  world.notified.length = 0;
  await abortEvaluation(world.deps, first);
  await checkInvariants(world.db);
  expect(await evaluationState(world, first)).toBe("Aborted");
  expect(await buildStates(world)).toEqual({
    own: "Aborted",
    "own-top": "Aborted",
    shared: "Building",
    "shared-top": "Created",
  });
  expect(world.notified.filter((line) => line.startsWith("abort "))).toEqual([`abort ${own.attemptId}`]);
  expect((await frozenLinks(world, first)).get("shared")?.outcome).toBe("Aborted");
  expect(await succeed(world, own)).toBe(false);
  await expect(abortEvaluation(world.deps, first)).rejects.toMatchObject({ code: "conflict" });
  await expect(abortEvaluation(world.deps, newId())).rejects.toMatchObject({ code: "not_found" });

  await succeed(world, kept);
  await succeed(world, await claimOne(world, "shared-top"));
  expect(await evaluationState(world, second)).toBe("Completed");
  await evaluate(world, [...shared, node("own"), node("own-top", { needs: ["own", "shared"] })]);
  expect(await buildStates(world)).toMatchObject({ own: "Queued", "own-top": "Created" });
});

test("an abort of an evaluation that is being evaluated ends its lease", async () => {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("a")]);
  await abortEvaluation(world.deps, evaluation.id);
  expect(world.notified).toContain(`abort ${evaluation.attemptId}`);
  expect(await ingest(world, evaluation, [node("b", { needs: ["a"] })])).toBe(false);
  expect(await finishEvaluation(world, evaluation)).toBe(false);
  expect(await buildStates(world)).toEqual({ a: "Aborted" });
});

test("an abort leaves what another evaluation waits for, though that one did not report it", async () => {
  const graph = [node("base"), node("mid", { needs: ["base"] })];
  await evaluate(world, graph);
  for (const name of ["base", "mid"]) await succeed(world, await claimOne(world, name));
  // This one found `mid` in the cache and so never looked at `base`.
  const waits = await evaluate(world, [node("mid", { pruned: true }), node("slow")]);
  for (const name of ["base", "mid"]) await losePath(world.db, outputPathOf(name));
  const finds = await evaluate(world, graph);
  expect(await buildStates(world)).toEqual({ base: "Queued", mid: "Created", slow: "Queued" });
  await abortEvaluation(world.deps, finds);
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({ base: "Queued", mid: "Created", slow: "Queued" });
  for (const name of ["base", "mid", "slow"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, waits)).toBe("Completed");
});

test("what an evaluation left running when it gave way fails when an abort takes away what it waits for", async () => {
  const older = await evaluate(world, [node("base"), node("kept", { needs: ["base"] }), node("other")]);
  await transition(world.deps, async (trx, wakeups) => {
    await lockToStop(trx, older);
    const stop = { evaluationId: older, status: EvaluationStatus.Aborted, reason: "a newer one" };
    await stopEvaluation(trx, wakeups, { ...stop, builds: "keep" });
  });
  const newer = await evaluate(world, [node("base"), node("own", { needs: ["base"] })]);
  expect(await buildStates(world)).toEqual({ base: "Queued", kept: "Created", other: "Queued", own: "Created" });

  await abortEvaluation(world.deps, newer);

  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({
    base: "Aborted",
    kept: "DependencyFailed",
    other: "Queued",
    own: "Aborted",
  });
});

test("a restart opens what failed, deterministic failures too, under a new evaluation that ends", async () => {
  const graph = [node("ok"), node("a", { needs: ["ok"] }), node("b", { needs: ["a"] })];
  const first = await evaluate(world, graph);
  await expect(restartFailed(world.deps, first, null)).rejects.toMatchObject({ code: "conflict" });
  await succeed(world, await claimOne(world, "ok"));
  await fail(world, await claimOne(world, "a"), "permanent");
  const seen = await frozenLinks(world, first);
  const second = await restartFailed(world.deps, first, null);
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", ok: "Completed" });
  for (const name of ["a", "b"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, second)).toBe("Completed");
  expect(await frozenLinks(world, first)).toEqual(seen);
  await expect(restartFailed(world.deps, second, null)).rejects.toMatchObject({ code: "bad_request" });
  await expect(restartFailed(world.deps, newId(), null)).rejects.toMatchObject({ code: "not_found" });
});

test("a restart does not try what no worker can build, nor what waits for that, and keeps the errors", async () => {
  const first = await evaluate(world, [
    node("odd", { unsupported: "it is impure" }),
    node("above-odd", { needs: ["odd"] }),
    node("a"),
  ]);
  await fail(world, await claimOne(world, "a"), "permanent");
  expect(await evaluationState(world, first)).toBe("Failed");
  const second = await restartFailed(world.deps, first, null);
  await checkInvariants(world.db);
  expect(await buildStates(world)).toEqual({ a: "Queued", "above-odd": "DependencyFailed", odd: "FailedPermanent" });
  await succeed(world, await claimOne(world, "a"));
  expect(await evaluationState(world, second)).toBe("Failed");
  const messages = await world.db
    .selectFrom("evaluation_message")
    .select("message")
    .where("evaluation_id", "=", second)
    .execute();
  expect(messages.length).toBe(1);
});

test("an evaluation with an error message fails though all of its builds succeed; a warning does no harm", async () => {
  for (const [level, end] of [
    [0, "Failed"],
    [1, "Completed"],
  ] as const) {
    const evaluation = await startEvaluation(world);
    const message = { id: newId(), level, text: "attribute x: it throws", source: "evaluator", attribute: ["x"] };
    await recordEvaluationMessage(world.deps, evaluation.attemptId, message);
    await recordEvaluationMessage(world.deps, evaluation.attemptId, message);
    await ingest(world, evaluation, [node(`a${level}`)]);
    await finishEvaluation(world, evaluation);
    await succeed(world, await claimOne(world, `a${level}`));
    expect(await evaluationState(world, evaluation.id)).toBe(end);
  }
  const { rows } = await sql`select 1 from evaluation_message`.execute(world.db);
  expect(rows.length).toBe(2);
});

test("an evaluation without a build ends when it was evaluated", async () => {
  expect(await evaluationState(world, await evaluate(world, []))).toBe("Completed");
});

test("an evaluation that fails as a whole says why and frees what only it needed", async () => {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, [node("a")]);
  const failure = { class: "permanent", message: "the flake does not parse" } as const;
  await endEvaluationAttempt(
    world.deps,
    evaluation.attemptId,
    { kind: "evaluation", status: "failed", failure },
    newId(),
  );
  expect(await evaluationState(world, evaluation.id)).toBe("Failed");
  expect(await buildStates(world)).toEqual({ a: "Aborted" });
  const row = await world.db
    .selectFrom("evaluation")
    .select("failure")
    .where("id", "=", evaluation.id)
    .executeTakeFirstOrThrow();
  expect(row.failure).toBe("the flake does not parse");
});
