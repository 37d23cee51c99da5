import { createHash } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { type StorePath, storePathHash } from "#core/nix/store-path.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { fileNar } from "#test/cache/support.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type BenchBuild, type HubBench, withHub } from "#test/support/hub.ts";

const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };

let bench: HubBench;
let worker: FakeWorker;
let build: BenchBuild;
let attempt: string;

beforeEach(async () => {
  bench = await withHub();
  worker = await bench.registered();
  build = await bench.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  ({ attempt } = await worker.next("assign_job"));
});
afterEach(() => bench[Symbol.asyncDispose]());

/** `announced` is the content that the message speaks of, where that is another. */
async function push(upload: number, path: StorePath, { content = "hi", announced = "" } = {}): Promise<void> {
  const [nar, other] = [await fileNar(utf8(content)), await fileNar(utf8(announced || content))];
  const stream = worker.connection.openStream();
  const nar_hash = toHex(createHash("sha256").update(other).digest());
  const info = { path, nar_hash, nar_size: other.length, references: [], deriver: null, ca: null };
  const rest = { target: "output", compression: "none", stream: stream.id, with_result: true } as const;
  worker.send({ type: "nar_push", upload, attempt, info, ...rest });
  await stream.pipe(streamOf(nar)).catch(() => {});
}

/** Keeps the keys of what is whole. */
function observed(put: BlobStore["put"], stored: string[]): BlobStore["put"] {
  return async (key, body) => {
    const result = await put(key, body);
    stored.push(key);
    return result;
  };
}

async function isOffered(path: StorePath): Promise<boolean> {
  const hash = storePathHash(path);
  return (await bench.db.selectFrom("cache_path").select("hash").where("hash", "=", hash).execute()).length > 0;
}

async function status(): Promise<number> {
  return (await bench.db.selectFrom("build").select("status").where("id", "=", build.id).executeTakeFirstOrThrow())
    .status;
}

test("an upload that waits for its result is offered with it and not before, without its own answer", async () => {
  await push(1, build.output);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([await isOffered(build.output), worker.count("nar_committed")]).toEqual([false, 0]);

  worker.send({ type: "job_result", attempt, uploads: [1], result: BUILT });
  await worker.next("job_result_ack");
  expect([await isOffered(build.output), await status()]).toEqual([true, BuildStatus.Completed]);
  expect(worker.count("nar_committed")).toBe(0);
});

test("a result that comes before the bytes of its upload waits for them", async () => {
  const nar = await fileNar(utf8("slow"));
  const stream = worker.connection.openStream();
  const nar_hash = toHex(createHash("sha256").update(nar).digest());
  const info = { path: build.output, nar_hash, nar_size: nar.length, references: [], deriver: null, ca: null };
  const rest = { target: "output", compression: "none", stream: stream.id, with_result: true } as const;
  worker.send({ type: "nar_push", upload: 7, attempt, info, ...rest });
  worker.send({ type: "job_result", attempt, uploads: [7], result: BUILT });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([await status(), worker.count("job_result_ack")]).toEqual([BuildStatus.Building, 0]);

  await stream.pipe(streamOf(nar));
  await worker.next("job_result_ack");
  expect(await status()).toBe(BuildStatus.Completed);
});

test("a result whose upload is refused does not count, and the next one does", async () => {
  await push(1, build.output, { content: "evil", announced: "good" });
  worker.send({ type: "job_result", attempt, uploads: [1], result: BUILT });
  expect(await worker.next("nar_refused")).toMatchObject({ upload: 1, retry: false });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([await status(), worker.count("job_result_ack")]).toEqual([BuildStatus.Building, 0]);

  await push(2, build.output, { content: "good" });
  worker.send({ type: "job_result", attempt, uploads: [2], result: BUILT });
  await worker.next("job_result_ack");
  expect(await status()).toBe(BuildStatus.Completed);
});

test("beside a refused upload the others are offered alone and answered", async () => {
  await push(1, build.output);
  worker.send({ type: "job_result", attempt, uploads: [1, 2], result: BUILT });
  expect(await worker.next("nar_committed")).toMatchObject({ upload: 1 });
  expect([await isOffered(build.output), await status()]).toEqual([true, BuildStatus.Building]);
});

test("what waits for a result that never comes leaves no object behind when its session ends", async () => {
  const { blobs } = bench.deps;
  const stored: string[] = [];
  Object.assign(blobs, { put: observed(blobs.put, stored) });
  await push(1, build.output);
  await expect.poll(() => stored.length).toBe(1);
  worker.connection.close(1001, "gone");
  await expect.poll(() => blobs.head(stored[0] as string)).toBe(null);
});
