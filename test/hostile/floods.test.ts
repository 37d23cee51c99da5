import { randomUUID } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { makeTextPath } from "#core/nix/store-path.ts";
import { encodeFrame } from "#core/protocol/frame.ts";
import { RepeatedTask } from "#runtime/node/hub/repeated-task.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { HUB_LIMITS, type HubBench, withHub } from "#test/support/hub.ts";

let bench: HubBench | null = null;
afterEach(async () => {
  await bench?.[Symbol.asyncDispose]();
  bench = null;
});

async function start(...options: Parameters<typeof withHub>): Promise<HubBench> {
  bench = await withHub(...options);
  return bench;
}

/** A worker with an attempt of either kind. */
async function busy(made: HubBench): Promise<{ worker: FakeWorker; build: string; evaluation: string }> {
  const worker = await made.registered();
  await made.addBuild("thing");
  await made.addEvaluation();
  worker.send({ type: "request_job", kind: "build", free: 1 });
  worker.send({ type: "request_job", kind: "evaluation", free: 1 });
  await expect.poll(() => worker.count("assign_job")).toBe(2);
  const [build, evaluation] = [worker.assigned("build")[0], worker.assigned("evaluation")[0]];
  return { worker, build: build as string, evaluation: evaluation as string };
}

/** Sends so many past the worker's own lanes, which would hold them up. */
async function flood(worker: FakeWorker, count: number, message: (i: number) => object): Promise<void> {
  for (let i = 1; i <= count; i++) {
    void worker.socket.send(JSON.stringify(message(i)));
    if (i % 1_000 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Counts statements that hold the text, from now on. */
function counting({ deps }: HubBench, text: string): () => number {
  let count = 0;
  const { db } = deps;
  const executor = db.getExecutor();
  const { executeQuery } = executor;
  Object.assign(executor, {
    executeQuery(query: Parameters<typeof executeQuery>[0], ...rest: never[]) {
      if (query.sql.includes(text)) count++;
      return executeQuery.call(executor, query, ...rest);
    },
  });
  return () => count;
}

test("what is wanted again and again while it runs is run once more", async () => {
  let runs = 0;
  let end = () => {};
  const task = new RepeatedTask(() => {
    runs++;
    return new Promise((resolve) => {
      end = resolve;
    });
  });
  for (let i = 0; i < 1_000; i++) task.want();
  expect(runs).toBe(1);
  end();
  await expect.poll(() => runs).toBe(2);
  end();
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(runs).toBe(2);
  task.want();
  expect(runs).toBe(3);
});

test("ten thousand words that a build has begun are one record", async () => {
  const made = await start();
  const { worker, build } = await busy(made);
  const recorded = counting(made, "set started_at");
  await flood(worker, 10_000, () => ({ type: "job_update", attempt: build, phase: "building" }));
  await expect.poll(recorded, { timeout: 5_000 }).toBeGreaterThan(0);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(recorded()).toBeLessThan(5);
  expect(worker.closed).toBeNull();
});

test("ten thousand descriptions of a worker are a few records, and the last is what holds", async () => {
  const made = await start();
  const { worker } = await busy(made);
  const recorded = counting(made, '"worker_connection" set "description"');
  await flood(worker, 10_000, (i) => ({
    type: "worker_capabilities",
    groups: [],
    max_concurrent_evaluations: 1,
    cpu_count: i,
    ram_total_mb: 1,
    signing_key: `key-${i}:AAAA`,
    attempts: null,
  }));
  const described = async () =>
    (await made.db.selectFrom("worker_connection").select("description").execute()).map((row) => row.description);
  await expect.poll(async () => (await described())[0]?.cpu_count, { timeout: 10_000 }).toBe(10_000);
  expect(recorded()).toBeGreaterThan(0);
  expect(recorded()).toBeLessThan(3_000);
  expect(made.log.lines.filter(({ message }) => message.includes("signing key")).length).toBeLessThan(3_000);
});

test("logs that are begun faster than they can be looked for end the session", async () => {
  const made = await start();
  const { worker, build } = await busy(made);
  const end = (stream: number) => encodeFrame({ stream, offset: 0, end: true, aborted: false, body: new Uint8Array() });
  for (let stream = 1; stream <= 50_000 && worker.closed === null; stream++) {
    void worker.socket.send(JSON.stringify({ type: "log_open", attempt: build, offset: 0, stream })).catch(() => {});
    void worker.socket.send(end(stream)).catch(() => {});
    if (stream % 5_000 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await expect.poll(() => worker.closed, { timeout: 10_000 }).toMatch(/^too many messages: \d+ of \d+ characters wait/);
});

test("an evaluation has no more messages and derivations than its limits allow", async () => {
  const limits = { ...HUB_LIMITS.evaluation, attributesMax: 1, messagesMax: 1, derivationsMax: 1 };
  const made = await start({ limits: { ...HUB_LIMITS, evaluation: limits } });
  const { worker, evaluation: attempt } = await busy(made);
  const message = { type: "eval_message", attempt, level: "error", source: "x", attribute: null } as const;
  worker.send({ ...message, sequence: 10_002, message: "the last" });
  for (const sequence of [10_003, 2 ** 53 - 1]) worker.send({ ...message, sequence, message: "one too many" });

  let refused: string | null = null;
  for (let sequence = 0; refused === null && sequence < 20; sequence++) {
    const made = await Promise.all(Array.from({ length: 1_000 }, (_, i) => derivation(`d-${sequence}-${i}`)));
    const size = made.reduce((sum, { aterm }) => sum + aterm.length, 0);
    const stream = worker.connection.openStream();
    const nodes = made.map(({ path, aterm }) => ({ drv_path: path, size: aterm.length, pruned: false }));
    const content = { stream: stream.id, size };
    worker.send({ type: "eval_batch", attempt, sequence, nodes, entry_points: [], content });
    await stream.pipe(streamOf(...made.map(({ aterm }) => aterm))).catch(() => {});
    refused = (await worker.next("eval_batch_ack")).error;
  }
  expect(refused).toMatch(/^the evaluation needs more than 1 derivations/);
  const messages = await made.db.selectFrom("evaluation_message").select("message").execute();
  expect(messages).toEqual([{ message: "the last" }]);
  const { count } = await made.db
    .selectFrom("build")
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .executeTakeFirstOrThrow();
  expect(Number(count)).toBeLessThanOrEqual(8_000 + 2);
});

test("names, systems and features that no worker could have are refused with their derivation", async () => {
  const made = await start();
  const { worker, evaluation: attempt } = await busy(made);
  const send = async (sequence: number, env: string, system = "x86_64-linux") => {
    const { path, aterm } = await derivation(`thing-${sequence}`, env, system);
    const stream = worker.connection.openStream();
    const nodes = [{ drv_path: path, size: aterm.length, pruned: false }];
    worker.send({
      type: "eval_batch",
      attempt,
      sequence,
      nodes,
      entry_points: [],
      content: { stream: stream.id, size: aterm.length },
    });
    await stream.pipe(streamOf(aterm));
    return (await worker.next("eval_batch_ack")).error;
  };
  const many = Array.from({ length: 300 }, (_, i) => `f${i}`).join(" ");
  for (const [env, system] of [
    [`("name","${"n".repeat(2 ** 20)}")`],
    [`("requiredSystemFeatures","${many}")`],
    ['("name","a")', "s".repeat(2 ** 20)],
  ] as const) {
    expect(await send(env.length, env, system)).toContain("is longer than 211 characters");
  }
  expect(await send(1, '("name","a")')).toBeNull();
});

async function derivation(name: string, env = `("name","${name}")`, system = "x86_64-linux") {
  const output = `/nix/store/${randomUUID().replaceAll("-", "").replaceAll("e", "z")}-${name}`;
  const aterm = utf8(`Derive([("out","${output}","","")],[],[],"${system}","/bin/sh",[],[${env}])`);
  return { aterm, path: await makeTextPath(`${name}.drv`, aterm, []) };
}
