import { randomUUID } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { encodeFrame } from "#core/protocol/frame.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { HUB_LIMITS, type HubBench, withHub } from "#test/support/hub.ts";

type Sent = Parameters<FakeWorker["send"]>[0];

let bench: HubBench | null = null;

afterEach(async () => {
  await bench?.[Symbol.asyncDispose]();
  bench = null;
});

async function start(...options: Parameters<typeof withHub>): Promise<HubBench> {
  bench = await withHub(...options);
  return bench;
}

async function building(made: HubBench, worker: FakeWorker) {
  const build = await made.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  return { ...build, attempt };
}

/** Still there and served: it is given a job. */
async function expectServed(made: HubBench, worker: FakeWorker): Promise<void> {
  const before = worker.count("assign_job");
  await made.addBuild("one-more");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  await expect.poll(() => worker.count("assign_job")).toBe(before + 1);
  expect(worker.closed).toBeNull();
}

const info = (path: string) =>
  ({ path, nar_hash: "0".repeat(64), nar_size: 1e9, references: [], deriver: null, ca: null }) as never;

test("data and credit of streams that were never announced mean nothing, and the session goes on", async () => {
  const made = await start();
  const worker = await made.registered();
  const body = new Uint8Array(64 * 1024);
  for (let stream = 1; stream <= 2_000; stream++) {
    void worker.socket.send(
      encodeFrame({ stream: 2 ** 31 + stream, offset: 2 ** 40, end: false, aborted: false, body }),
    );
    void worker.socket.send(JSON.stringify({ type: "credit", stream, offset: Number.MAX_SAFE_INTEGER }));
    void worker.socket.send(JSON.stringify({ type: "stream_stop", stream: stream + 5_000 }));
  }

  await expectServed(made, worker);
});

test("attempts that nobody has given out are refused one by one, whatever is said about them", async () => {
  const made = await start();
  const worker = await made.registered();
  const path = "/nix/store/00000000000000000000000000000000-thing" as never;
  for (let i = 1; i <= 500; i++) {
    const attempt = randomUUID();
    const said: Sent[] = [
      { type: "nar_request", request: i, attempt, path },
      { type: "cache_query", query: i, attempt, paths: [path] },
      { type: "nar_push", upload: i, attempt, target: "output", info: info(path), compression: "none", stream: i },
      { type: "log_open", attempt, offset: 0, stream: 1_000 + i },
      { type: "job_update", attempt, phase: "building" },
      { type: "assign_job_response", attempt, accepted: false },
    ];
    for (const message of said) worker.send(message);
  }
  await expect.poll(() => worker.count("nar_refused")).toBe(500);
  await expect.poll(() => worker.count("nar_unavailable")).toBe(500);

  await expectServed(made, worker);
});

test("a worker that asks faster than it reads loses its session, and nobody else notices", async () => {
  const made = await start({ limits: { ...HUB_LIMITS, maxConcurrentNarServes: 1 } });
  const other = await made.registered();
  const worker = await made.registered();
  const { attempt } = await building(made, worker);
  const path = "/nix/store/00000000000000000000000000000000-thing" as never;
  for (let request = 1; request <= 20_000 && worker.closed === null; request++) {
    void worker.socket.send(JSON.stringify({ type: "nar_request", request, attempt, path })).catch(() => {});
  }

  await expect.poll(() => worker.closed, { timeout: 10_000 }).toMatch(/^too many messages: \d+ of \d+ characters wait/);
  await expectServed(made, other);
});

test("more streams than may be open, and a stream that is announced twice, end the session", async () => {
  const made = await start();
  const greedy = await made.registered();
  const { attempt, output } = await building(made, greedy);
  const push = (stream: number): Sent => ({
    type: "nar_push",
    upload: stream,
    attempt,
    target: "output",
    info: info(output),
    compression: "none",
    stream,
  });
  for (let stream = 1; stream <= 257; stream++) greedy.send(push(stream));
  await expect.poll(() => greedy.closed).toBe("too many open streams");

  const twice = await made.registered();
  const held = await building(made, twice);
  for (let i = 0; i < 2; i++) twice.send({ ...push(1), attempt: held.attempt, info: info(held.output) } as Sent);
  await expect.poll(() => twice.closed).toBe("stream 1 was announced twice");
});

test("an upload that is announced for the output of another build is refused, and its bytes are not read", async () => {
  const made = await start();
  const worker = await made.registered();
  const { attempt } = await building(made, worker);
  const other = await made.addBuild("other");
  const stream = worker.connection.openStream();
  const push = { upload: 1, attempt, target: "output", compression: "none", stream: stream.id } as const;
  worker.send({ type: "nar_push", ...push, info: info(other.output) });

  expect(await worker.next("nar_refused")).toMatchObject({ upload: 1, retry: false });
  await expect(stream.write(new Uint8Array(4 * 2 ** 20))).rejects.toThrow("stopped");
  await expectServed(made, worker);
});

test("a flood of greetings from strangers is answered one by one, while workers work", async () => {
  const made = await start();
  const worker = await made.registered();
  const strangers = Array.from({ length: 100 }, () => made.worker());
  for (const stranger of strangers) stranger.hello();
  await expect.poll(() => strangers.every(({ closed }) => closed !== null), { timeout: 10_000 }).toBe(true);

  await expectServed(made, worker);
  await expect.poll(() => made.hub.connections).toBe(1);
});
