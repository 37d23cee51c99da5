import { createHash, randomUUID } from "node:crypto";
import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AttemptKind, BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { concatBytes, fromUtf8, toHex, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { BUILDS_ASKED_MAX } from "#core/protocol/limits.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { fileNar } from "#test/cache/support.ts";
import { storePath } from "#test/support/derivations.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type BenchBuild, type HubBench, withHub } from "#test/support/hub.ts";
import { newId } from "#test/support/rows.ts";

const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };
const EVALUATED = { kind: "evaluation", status: "completed", failure: null } as const;
const OTHER_PATH = storePath("/nix/store/00000000000000000000000000000000-thing");

let bench: HubBench;

beforeEach(async () => {
  // Leases are looked after every 200 ms.
  bench = await withHub({ leaseMs: 600 });
});

afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

function failed(message: string): BuildResult {
  return { ...BUILT, status: "failed", failure: { class: "permanent", message, missing: [] } };
}

/** A build that the worker runs now. */
async function building(worker: FakeWorker, name = "thing"): Promise<BenchBuild & { readonly attempt: string }> {
  const build = await bench.addBuild(name);
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  return { ...build, attempt };
}

async function evaluating(worker: FakeWorker): Promise<{ readonly id: string; readonly attempt: string }> {
  const id = await bench.addEvaluation();
  worker.send({ type: "request_job", kind: "evaluation", free: 1 });
  const { attempt } = await worker.next("assign_job");
  return { id, attempt };
}

async function push(worker: FakeWorker, attempt: string, path: StorePath, change: { target?: "source" } = {}) {
  const nar = await fileNar(utf8("hi"));
  const stream = worker.connection.openStream();
  const nar_hash = toHex(createHash("sha256").update(nar).digest());
  const info = { path, nar_hash, nar_size: nar.length, references: [], deriver: null, ca: null };
  const rest = { target: "output", compression: "none", stream: stream.id, ...change } as const;
  worker.send({ type: "nar_push", upload: 1, attempt, info, ...rest });
  await stream.pipe(streamOf(nar)).catch(() => {});
}

async function buildStatus({ id }: BenchBuild): Promise<number | undefined> {
  return (await bench.db.selectFrom("build").select("status").where("id", "=", id).executeTakeFirst())?.status;
}

async function evaluationRow(id: string) {
  return await bench.db.selectFrom("evaluation").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
}

async function messages(evaluationId: string): Promise<string[]> {
  const rows = await bench.db
    .selectFrom("evaluation_message")
    .select("message")
    .where("evaluation_id", "=", evaluationId)
    .orderBy("created_at")
    .execute();
  return rows.map(({ message }) => message);
}

describe("what is another worker's", () => {
  test("a result of it is acknowledged and changes nothing", async () => {
    const owner = await bench.registered();
    const thief = await bench.registered();
    const build = await building(owner);
    const evaluation = await evaluating(owner);

    thief.send({ type: "job_result", attempt: build.attempt, result: failed("it failed") });
    thief.send({ type: "job_result", attempt: evaluation.attempt, result: EVALUATED });
    await thief.next("job_result_ack");
    await thief.next("job_result_ack");

    expect(await buildStatus(build)).toBe(BuildStatus.Building);
    expect((await evaluationRow(evaluation.id)).status).toBe(EvaluationStatus.Fetching);
    expect(owner.count("abort_job")).toBe(0);
  });

  test("messages, phases, batches, logs and uploads of it are refused, and the owner's are recorded", async () => {
    const owner = await bench.registered();
    const thief = await bench.registered();
    const evaluation = await evaluating(owner);
    const build = await building(owner);
    const message = { type: "eval_message", attempt: evaluation.attempt, sequence: 0, level: "error" } as const;
    const about = { source: "evaluation", attribute: null };

    thief.send({ ...message, message: "not mine", ...about });
    thief.send({ type: "job_update", attempt: evaluation.attempt, phase: "evaluating_flake" });
    const log = thief.connection.openStream();
    thief.send({ type: "log_open", attempt: build.attempt, offset: 0, stream: log.id });
    await log.pipe(streamOf(utf8("not mine\n"))).catch(() => {});
    const content = { stream: thief.connection.openStream().id, size: 0 };
    thief.send({ type: "eval_batch", attempt: evaluation.attempt, sequence: 1, nodes: [], entry_points: [], content });
    expect((await thief.next("eval_batch_ack")).error).toBe("the lease of this evaluation has ended");
    await push(thief, build.attempt, build.output);
    expect(await thief.next("nar_refused")).toMatchObject({ message: "the lease has ended", retry: false });
    thief.send({ type: "cache_query", query: 7, attempt: evaluation.attempt, paths: [OTHER_PATH] });
    expect(await thief.next("query_error")).toMatchObject({ query: 7, message: "the lease has ended" });
    thief.send({ type: "nar_request", request: 8, attempt: build.attempt, path: OTHER_PATH });
    expect(await thief.next("nar_unavailable")).toMatchObject({ request: 8, reason: "the lease has ended" });

    owner.send({ ...message, message: "mine", ...about });
    await expect.poll(() => messages(evaluation.id)).toEqual(["mine"]);
    expect((await evaluationRow(evaluation.id)).status).toBe(EvaluationStatus.Fetching);
    const { log_bytes } = await bench.db
      .selectFrom("attempt")
      .select("log_bytes")
      .where("id", "=", build.attempt)
      .executeTakeFirstOrThrow();
    expect(log_bytes).toBe(0);
    expect(thief.closed).toBeNull();
  });

  test("an attempt that never was is treated no differently", async () => {
    const worker = await bench.registered();
    worker.send({ type: "job_result", attempt: newId(), result: BUILT });
    await worker.next("job_result_ack");
    worker.send({ type: "assign_job_response", attempt: newId(), accepted: false, reason: "no" });
    worker.send({ type: "query_derivations", query: 1, attempt: newId(), derivations: [] });
    await worker.next("query_error");

    expect(worker.closed).toBeNull();
  });
});

describe("uploads", () => {
  test("of a path that is no output of the leased build are refused", async () => {
    const worker = await bench.registered();
    const { attempt } = await building(worker);

    await push(worker, attempt, OTHER_PATH);

    expect(await worker.next("nar_refused")).toMatchObject({
      message: `${OTHER_PATH} is not an output of the leased build`,
      retry: false,
    });
  });

  test("of sources are refused under a build's lease, and of outputs under an evaluation's", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    const evaluation = await evaluating(worker);

    await push(worker, build.attempt, build.output, { target: "source" });
    expect((await worker.next("nar_refused")).message).toBe("only an evaluation uploads sources");
    await push(worker, evaluation.attempt, build.output);
    expect((await worker.next("nar_refused")).message).toBe(`${build.output} is not an output of the leased build`);
  });

  test("whose bytes have another hash are refused in words, and a good one after it is taken", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    const stream = worker.connection.openStream();
    const info = { path: build.output, nar_hash: "0".repeat(64), nar_size: 5, references: [], deriver: null, ca: null };
    const question = { upload: 9, attempt: build.attempt, target: "output", info, compression: "none" } as const;
    worker.send({ type: "nar_push", ...question, stream: stream.id });
    await stream.pipe(streamOf(utf8("wrong"))).catch(() => {});

    const refused = await worker.next("nar_refused");
    expect(refused).toMatchObject({ upload: 9, retry: false });
    expect(refused.message).toMatch(/NAR/);

    await push(worker, build.attempt, build.output);
    await worker.next("nar_committed");
    worker.send({ type: "job_result", attempt: build.attempt, result: BUILT });
    await worker.next("job_result_ack");
    expect(await buildStatus(build)).toBe(BuildStatus.Completed);
  });

  test("that are missing make a success a failure that names them", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    worker.send({ type: "job_result", attempt: build.attempt, result: BUILT });
    await worker.next("job_result_ack");

    const { message } = await bench.db
      .selectFrom("attempt")
      .select("message")
      .where("id", "=", build.attempt)
      .executeTakeFirstOrThrow();
    expect(message).toBe(
      `the worker reported success, but these outputs were not uploaded: ${build.output.slice("/nix/store/".length)}`,
    );
  });
});

describe("reports", () => {
  test("that hold NUL are recorded without it", async () => {
    const worker = await bench.registered();
    const evaluation = await evaluating(worker);
    const build = await building(worker);
    const about = { source: "evaluation", attribute: ["a\0b"] };
    worker.send({
      type: "eval_message",
      attempt: evaluation.attempt,
      sequence: 0,
      level: "error",
      message: "x\0y",
      ...about,
    });
    worker.send({ type: "job_result", attempt: build.attempt, result: failed("the builder says \0") });
    await worker.next("job_result_ack");

    await expect.poll(() => messages(evaluation.id)).toEqual(["x\ufffdy"]);
    expect(await buildStatus(build)).toBe(BuildStatus.FailedPermanent);
    expect(worker.closed).toBeNull();
  });

  test("that cannot be recorded end the session, and what came after them is not recorded without them", async () => {
    const worker = await bench.registered();
    const evaluation = await evaluating(worker);
    await sql`alter table evaluation_message rename to evaluation_message_away`.execute(bench.db);
    const about = { source: "evaluation", attribute: null };
    worker.send({
      type: "eval_message",
      attempt: evaluation.attempt,
      sequence: 0,
      level: "error",
      message: "x",
      ...about,
    });
    worker.send({ type: "job_result", attempt: evaluation.attempt, result: EVALUATED });

    await expect.poll(() => worker.closed).toBe("the server could not record what it was sent");
    await sql`alter table evaluation_message_away rename to evaluation_message`.execute(bench.db);
    expect((await evaluationRow(evaluation.id)).status).toBe(EvaluationStatus.Fetching);

    const again = bench.worker({
      workerId: worker.workerId,
      tokens: { [bench.organizationId]: `token of ${worker.workerId}` },
    });
    expect(await again.register({ attempts: [evaluation.attempt] })).toEqual([evaluation.attempt]);
    again.send({
      type: "eval_message",
      attempt: evaluation.attempt,
      sequence: 0,
      level: "error",
      message: "x",
      ...about,
    });
    again.send({ type: "job_result", attempt: evaluation.attempt, result: EVALUATED });
    await again.next("job_result_ack");
    expect(await messages(evaluation.id)).toEqual(["x"]);
  });

  test("larger than announced fail the evaluation in words, and the session goes on", async () => {
    const worker = await bench.registered();
    const evaluation = await evaluating(worker);
    const stream = worker.connection.openStream();
    const content = { stream: stream.id, size: 3 };
    worker.send({ type: "eval_batch", attempt: evaluation.attempt, sequence: 0, nodes: [], entry_points: [], content });
    await stream.pipe(streamOf(utf8("more than three"))).catch(() => {});

    expect((await worker.next("eval_batch_ack")).error).toBe(
      "the batch is larger than announced or allowed: more than 3 bytes",
    );
    expect(worker.closed).toBeNull();
  });
});

describe("logs", () => {
  test("are whole before the result is recorded", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    const log = worker.connection.openStream();
    worker.send({ type: "log_open", attempt: build.attempt, offset: 0, stream: log.id });
    await log.write(utf8("one\n"));
    worker.send({ type: "job_result", attempt: build.attempt, result: failed("it failed") });
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await buildStatus(build)).toBe(BuildStatus.Building);

    await log.write(utf8("two\n"));
    await log.end();
    await worker.next("job_result_ack");

    const chunks = await bench.db.selectFrom("attempt_log_chunk").select("data").orderBy("byte_start").execute();
    expect(fromUtf8(concatBytes(chunks.map(({ data }) => data)))).toBe("one\ntwo\n");
  });

  test("that the worker gave up keep what came, and its result is recorded", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    const log = worker.connection.openStream();
    worker.send({ type: "log_open", attempt: build.attempt, offset: 0, stream: log.id });
    await log.write(utf8("one\n"));
    await log.abort("no space left on device");
    worker.send({ type: "job_result", attempt: build.attempt, result: failed("it failed") });
    await worker.next("job_result_ack");

    expect(await buildStatus(build)).toBe(BuildStatus.FailedPermanent);
    expect(worker.closed).toBeNull();
  });

  test("that do not join on to what is stored end the session, so that they are sent again from there", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    const log = worker.connection.openStream();
    worker.send({ type: "log_open", attempt: build.attempt, offset: 100, stream: log.id });

    await expect.poll(() => worker.closed).toBe("the server could not record what it was sent");
  });
});

describe("leases", () => {
  test("of a worker that is heard hold, whatever their length", async () => {
    const worker = await bench.registered();
    const build = await building(worker);

    await new Promise((resolve) => setTimeout(resolve, 1_500));

    expect(await buildStatus(build)).toBe(BuildStatus.Building);
    expect(worker.count("abort_job")).toBe(0);
  });

  test("of a worker that is gone run out, and another one is given the build", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    const other = await bench.registered();
    other.send({ type: "request_job", kind: "build", free: 1 });
    worker.connection.close(1001, "gone");

    const { job } = await other.next("assign_job");
    expect(job).toMatchObject({ kind: "build", build: build.id });
  });

  test("that ended without a word to anybody are ended on the worker too", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    await sql`update attempt set finished_at = gradient_now(), outcome = 2 where id = ${build.attempt}`.execute(
      bench.db,
    );

    expect(await worker.next("abort_job")).toMatchObject({
      attempt: build.attempt,
      reason: "it was ended on the server",
    });
  });

  test("that a worker has never heard of are taken back from it while it is connected", async () => {
    const worker = await bench.registered();
    const build = await bench.addBuild("unheard");
    await bench.db.updateTable("build").set({ status: BuildStatus.Building }).where("id", "=", build.id).execute();
    const lease = {
      build_id: build.id,
      worker_id: worker.workerId,
      lease_expires_at: new Date(Date.now() + 3_600_000),
    };
    await bench.db
      .insertInto("attempt")
      .values({ id: newId(), kind: AttemptKind.Build, organization_id: bench.organizationId, ...lease })
      .execute();

    await expect.poll(() => buildStatus(build), { timeout: 3_000 }).toBe(BuildStatus.Queued);
  });

  test("of an organization that is deleted end on its workers", async () => {
    const worker = await bench.registered();
    const build = await building(worker);
    await bench.db.deleteFrom("organization").where("id", "=", bench.organizationId).execute();
    bench.deps.notifier.notify("registration", `${bench.organizationId}/${worker.workerId}`);

    expect(await worker.next("abort_job")).toMatchObject({
      attempt: build.attempt,
      reason: "the organization no longer lets this worker in",
    });
    await expect.poll(() => worker.closed).toMatch(/^no organization has registered the worker/);
  });
});

describe("work", () => {
  test("is shared by the workers of an organization, each within its places", async () => {
    for (let i = 0; i < 12; i++) await bench.addBuild(`thing-${i}`);
    const workers = [await bench.registered({ builds: 4 }), await bench.registered({ builds: 3 })];
    workers[0]?.send({ type: "request_job", kind: "build", free: 4 });
    workers[1]?.send({ type: "request_job", kind: "build", free: 3 });

    const counts = () => workers.map((worker) => worker.assigned("build").length);
    await expect.poll(counts).toEqual([4, 3]);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(counts()).toEqual([4, 3]);
    const all = workers.flatMap((worker) => worker.assigned("build"));
    expect(new Set(all).size).toBe(7);
  });

  test("is given at one time as far as the worker has places, or as the session's beginning said", async () => {
    const max = BUILDS_ASKED_MAX;
    for (let i = 0; i < max + 2; i++) await bench.addBuild(`thing-${i}`);
    const worker = await bench.registered({ builds: 2 });
    worker.send({ type: "request_job", kind: "build", free: 100 });
    await expect.poll(() => worker.assigned("build").length).toBe(max);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(worker.assigned("build").length).toBe(max);
  });

  test("of one organization is never given to the worker of another", async () => {
    const other = await bench.makeOrganization();
    const worker = await bench.registered({ organizationId: other });
    worker.send({ type: "request_job", kind: "build", free: 4 });
    worker.send({ type: "request_job", kind: "evaluation", free: 1 });
    await bench.addBuild("thing");
    await bench.addEvaluation();

    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(worker.count("assign_job")).toBe(0);
  });

  test("is given to nobody who drains, and goes to the next who asks", async () => {
    const worker = await bench.registered();
    worker.send({ type: "request_job", kind: "build", free: 4 });
    worker.send({ type: "draining" });
    await bench.addBuild("thing");
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(worker.count("assign_job")).toBe(0);

    const other = await bench.registered();
    other.send({ type: "request_job", kind: "build", free: 1 });
    await other.next("assign_job");
  });

  test("that is refused is offered to another", async () => {
    const worker = await bench.registered();
    const { attempt, id } = await building(worker);
    const other = await bench.registered();
    other.send({ type: "request_job", kind: "build", free: 1 });
    worker.send({ type: "assign_job_response", attempt, accepted: false, reason: "the worker is draining" });

    expect((await other.next("assign_job")).job).toMatchObject({ build: id });
  });
});

test("a worker's id in upper case or of another kind is refused before anything is looked up", async () => {
  const worker = bench.worker({ workerId: randomUUID().toUpperCase() });
  worker.hello();

  await expect.poll(() => worker.closed).toMatch(/not a UUID version 4/);
});
