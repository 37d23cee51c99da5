import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { type ByteStream, collect, streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { Blob, BlobStore } from "#core/ports/blob-store.ts";
import { fileNar, randomContent } from "#test/cache/support.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { HUB_LIMITS, type HubBench, withHub } from "#test/support/hub.ts";

/** A store that cannot even begin: its disk is full, or it has no files left. */
const failing: BlobStore = {
  put: () => Promise.reject(new Error("ENOSPC: no space left on device")),
  get: () => Promise.resolve(null),
  head: () => Promise.resolve(null),
  delete: () => Promise.resolve(),
  list: () => Promise.resolve({ objects: [], next: null }),
  copy: () => Promise.resolve(null),
};

test("an upload that cannot be stored is refused for now, and its sender waits for nothing", async () => {
  await using bench = await withHub({ blobs: failing });
  const worker = await bench.registered();
  const { output } = await bench.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  const stream = worker.connection.openStream();
  const info = { path: output, nar_hash: "0".repeat(64), nar_size: 5e6, references: [], deriver: null, ca: null };
  const question = { upload: 1, attempt, target: "output", info, compression: "none" } as const;
  worker.send({ type: "nar_push", ...question, stream: stream.id });

  // Five windows: without word from the server it would wait for credit.
  const sending = stream.write(new Uint8Array(5 * 1024 * 1024)).catch((error: Error) => error.message);

  expect(await worker.next("nar_refused")).toMatchObject({ upload: 1, retry: true });
  expect(await sending).toContain("stopped");
});

const SIZE = 3 * 1024 * 1024;

interface Delivered {
  readonly attempt: string;
  readonly path: StorePath;
  readonly info: ReturnType<typeof infoOf>;
  readonly nar: Uint8Array;
}

function infoOf(path: StorePath, nar: Uint8Array) {
  const nar_hash = createHash("sha256").update(nar).digest("hex");
  return { path, nar_hash, nar_size: nar.length, references: [], deriver: null, ca: null };
}

/** A build of the worker whose output, 3 MiB that no compression makes smaller, is in the organization's caches. */
async function delivered(bench: HubBench, worker: FakeWorker): Promise<Delivered> {
  const { output: path } = await bench.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  const nar = await fileNar(randomContent(SIZE));
  const info = infoOf(path, nar);
  const stream = worker.connection.openStream();
  const question = { upload: 1, attempt, target: "output", info, compression: "none" } as const;
  worker.send({ type: "nar_push", ...question, stream: stream.id });
  await stream.pipe(streamOf(nar));
  await worker.next("nar_committed");
  return { attempt, path, info, nar };
}

/** Reads what is offered as it comes. The bodies by their requests. */
function reading(worker: FakeWorker): Map<number, Promise<Uint8Array>> {
  const bodies = new Map<number, Promise<Uint8Array>>();
  worker.onMessage = (message) => {
    if (message.type === "nar_abort") worker.connection.abortStream(message.stream, message.reason);
    if (message.type !== "nar_offer") return;
    const body = collect(worker.connection.acceptStream(message.stream), 2 * SIZE);
    body.catch(() => {});
    bodies.set(message.request, body);
  };
  return bodies;
}

test("a worker is sent as many paths at a time as maxConcurrentNarServes says; the others wait", async () => {
  await using bench = await withHub({ limits: { ...HUB_LIMITS, maxConcurrentNarServes: 2 } });
  const worker = await bench.registered();
  const { attempt, path } = await delivered(bench, worker);
  const held: ByteStream[] = [];
  worker.onMessage = (message) => {
    if (message.type === "nar_offer") held.push(worker.connection.acceptStream(message.stream));
  };
  for (let request = 1; request <= 5; request++) worker.send({ type: "nar_request", request, attempt, path });
  await expect.poll(() => held.length).toBe(2);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(held.length).toBe(2);

  await collect(held[0] as ByteStream, 2 * SIZE);
  await expect.poll(() => held.length).toBe(3);
  expect(worker.closed).toBeNull();
});

test("a transfer that a worker does not take within narSendChunkTimeoutSecs ends, its session not", async () => {
  await using bench = await withHub({ limits: { ...HUB_LIMITS, narSendChunkTimeoutMs: 300 } });
  const worker = await bench.registered();
  const { attempt, path, info } = await delivered(bench, worker);
  let stalled: ByteStream | null = null;
  worker.onMessage = (message) => {
    if (message.type === "nar_offer") stalled = worker.connection.acceptStream(message.stream);
  };
  worker.send({ type: "nar_request", request: 1, attempt, path });
  expect(await worker.next("nar_abort")).toEqual({
    type: "nar_abort",
    request: 1,
    stream: (await worker.next("nar_offer")).stream,
    reason: "the worker did not take a piece of the path within 0 s",
  });
  expect(stalled).not.toBeNull();

  const bodies = reading(worker);
  worker.send({ type: "nar_request", request: 2, attempt, path });
  await expect.poll(() => bodies.has(2)).toBe(true);
  expect((await bodies.get(2))?.length).toBeGreaterThan(SIZE);
  expect(info.nar_size).toBeGreaterThan(SIZE);
  expect(worker.closed).toBeNull();
});

test("a store that does not answer within narStorageOpenTimeoutSecs makes a path unavailable for now", async () => {
  await using bench = await withHub({ limits: { ...HUB_LIMITS, narStorageOpenTimeoutMs: 300 } });
  const worker = await bench.registered();
  const { attempt, path } = await delivered(bench, worker);
  const { blobs } = bench.deps;
  const { get } = blobs;
  let discarded = 0;
  let answer = () => {};
  blobs.get = async () => {
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
    const body = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
    return { size: 1, body, discard: async () => void discarded++ };
  };
  worker.send({ type: "nar_request", request: 1, attempt, path });
  expect(await worker.next("nar_unavailable")).toMatchObject({ request: 1, retry: true });
  answer();
  await expect.poll(() => discarded).toBe(1);

  blobs.get = get;
  const bodies = reading(worker);
  await bench.db.updateTable("nar").set({ damaged_at: null }).execute();
  worker.send({ type: "nar_request", request: 2, attempt, path });
  await expect.poll(() => bodies.has(2)).toBe(true);
  expect((await bodies.get(2))?.length).toBeGreaterThan(SIZE);
});

test("a store that breaks off in the middle ends one transfer with a reason, and never the session", async () => {
  await using bench = await withHub();
  const worker = await bench.registered();
  const { attempt, path } = await delivered(bench, worker);
  const { blobs } = bench.deps;
  const { get } = blobs;
  blobs.get = async (key, range) => {
    const blob = await get.call(blobs, key, range);
    if (!blob) return null;
    async function* broken(): AsyncGenerator<Uint8Array> {
      for await (const bytes of (blob as Blob).body) {
        yield bytes;
        throw new Error("EIO: i/o error");
      }
    }
    return { ...blob, body: broken() };
  };
  const bodies = reading(worker);
  worker.send({ type: "nar_request", request: 1, attempt, path });
  expect(await worker.next("nar_abort")).toMatchObject({ request: 1, reason: expect.stringContaining("to its end") });
  await expect(bodies.get(1)).rejects.toThrow("the sender gave up");
  expect(worker.closed).toBeNull();
});

test("the rest of a file is sent from where a worker has it, and another file from its beginning", async () => {
  await using bench = await withHub();
  const worker = await bench.registered();
  const { attempt, path } = await delivered(bench, worker);
  const bodies = reading(worker);
  const ask = async (request: number, resume?: { file: string; offset: number }) => {
    worker.send({ type: "nar_request", request, attempt, path, ...(resume && { resume }) });
    const offer = await worker.next("nar_offer");
    return { offer, body: (await bodies.get(request)) as Uint8Array };
  };
  const whole = await ask(1);
  const file = whole.offer.file as string;
  expect(file).toBe(createHash("sha256").update(whole.body).digest("hex"));

  const rest = await ask(2, { file, offset: 1_000_000 });
  expect(rest.offer).toMatchObject({ file, offset: 1_000_000, file_size: whole.body.length });
  expect(Buffer.compare(rest.body, whole.body.subarray(1_000_000))).toBe(0);
  const other = await ask(3, { file: "0".repeat(64), offset: 1_000_000 });
  expect(other.offer).toMatchObject({ file, offset: 0 });
  expect(other.body.length).toBe(whole.body.length);
  const beyond = await ask(4, { file, offset: 1e12 });
  expect(beyond.offer.offset).toBe(whole.body.length);
  expect(beyond.body.length).toBe(0);
});

test("uploads that are held back beyond maxNarBufferBytes are refused, for now or for good", async () => {
  await using bench = await withHub({ limits: { ...HUB_LIMITS, maxNarBufferBytes: 2_000_000 } });
  const worker = await bench.registered();
  const { output: path } = await bench.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  const push = async (upload: number, bytes: number, withResult: boolean) => {
    const nar = await fileNar(randomContent(bytes));
    const stream = worker.connection.openStream();
    const question = { upload, attempt, target: "output", info: infoOf(path, nar), compression: "none" } as const;
    worker.send({ type: "nar_push", ...question, stream: stream.id, ...(withResult && { with_result: true }) });
    await stream.pipe(streamOf(nar)).catch(() => {});
  };
  await push(1, SIZE, false);
  expect(await worker.next("nar_refused")).toMatchObject({
    upload: 1,
    retry: false,
    message: "the upload is larger than maxNarBufferBytes, 2000000",
  });

  const held = { width: 1_500_000, other: 1_000_000 };
  const { output: second } = await bench.addBuild("second");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const next = await worker.next("assign_job");
  await push(2, held.width, true);
  const nar = await fileNar(randomContent(held.other));
  const stream = worker.connection.openStream();
  const info = infoOf(second, nar);
  const question = { upload: 3, attempt: next.attempt, target: "output", info, compression: "none" } as const;
  worker.send({ type: "nar_push", ...question, stream: stream.id });
  await stream.pipe(streamOf(nar)).catch(() => {});
  const refusal = await worker.next("nar_refused");
  expect(refusal).toMatchObject({ retry: true, message: expect.stringContaining("together are larger than") });
  expect([2, 3]).toContain(refusal.upload);

  bench.deps.notifier.notify("abort", attempt);
  await worker.next("abort_job");
  expect(worker.closed).toBeNull();
});
