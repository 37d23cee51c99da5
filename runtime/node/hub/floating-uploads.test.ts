import { createHash } from "node:crypto";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Bytes, fromHex, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { formatHash } from "#core/nix/hash.ts";
import { makeSourcePath, type StorePath, storePathBaseName } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { fileNar } from "#test/cache/support.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type BenchBuild, type HubBench, withHub } from "#test/support/hub.ts";

let bench: HubBench;
let worker: FakeWorker;
let build: BenchBuild;
let attempt: string;

beforeEach(async () => {
  bench = await withHub();
  worker = await bench.registered();
  build = await bench.addBuild("thing");
  const aterm = 'Derive([("out","","r:sha256","")],[],[],"x86_64-linux","/bin/sh",[],[("name","thing")])';
  await sql`update build set resolution = 1 where id = ${build.id}`.execute(bench.db);
  await sql`update build_output set store_path = null where build_id = ${build.id}`.execute(bench.db);
  await sql`update build_derivation set aterm = ${utf8(aterm)} where build_id = ${build.id}`.execute(bench.db);
  worker.send({ type: "request_job", kind: "build", free: 1 });
  ({ attempt } = await worker.next("assign_job"));
});
afterEach(() => bench[Symbol.asyncDispose]());

interface Made {
  readonly path: StorePath;
  readonly ca: string | null;
  readonly nar: Uint8Array;
}

async function made(content: string, name = "thing"): Promise<Made> {
  const nar = await fileNar(utf8(content));
  const digest = fromHex(createHash("sha256").update(nar).digest("hex")) as Bytes;
  const ca = `fixed:r:${formatHash({ algorithm: "sha256", digest }, "nix32")}`;
  return { path: await makeSourcePath(name, digest, []), ca, nar };
}

async function push(upload: number, { path, ca, nar }: Made): Promise<void> {
  const stream = worker.connection.openStream();
  const nar_hash = createHash("sha256").update(nar).digest("hex");
  const info = { path, nar_hash, nar_size: nar.length, references: [], deriver: null, ca };
  const rest = { target: "output", compression: "none", stream: stream.id, with_result: true } as const;
  worker.send({ type: "nar_push", upload, attempt, info, ...rest });
  await stream.pipe(streamOf(nar)).catch(() => {});
}

function builtAt(path: StorePath): BuildResult {
  return { kind: "build", status: "built", outputs: [{ name: "out", path }], failure: null, build_ms: 1 };
}

async function output(): Promise<unknown> {
  const query = bench.db.selectFrom("build_output").select(["store_path", "available"]);
  return await query.where("build_id", "=", build.id).executeTakeFirst();
}

test("an output whose path follows from its content is taken, and the build says where it is", async () => {
  const thing = await made("hi");
  await push(1, thing);
  worker.send({ type: "job_result", attempt, uploads: [1], result: builtAt(thing.path) });
  await worker.next("job_result_ack");
  expect(await output()).toEqual({ store_path: storePathBaseName(thing.path), available: true });
});

test("a path that does not follow from its content, or is called otherwise, is no output of the build", async () => {
  const [thing, other] = [await made("hi"), await made("ho")];
  const refused: readonly [Made, RegExp][] = [
    [{ ...thing, ca: null }, /is not addressed by its content as the derivation says: by r:sha256/],
    [{ ...thing, ca: thing.ca?.replace("fixed:r:", "fixed:") ?? null }, /as the derivation says/],
    [await made("hi", "thing-doc"), /is not an output of the leased build/],
    [{ ...thing, nar: other.nar }, /holds other bytes than/],
    [{ ...other, path: thing.path }, /does not follow from its content address/],
  ];
  for (const [i, [upload, reason]] of refused.entries()) {
    await push(i, upload);
    expect(await worker.next("nar_refused")).toMatchObject({ upload: i, message: expect.stringMatching(reason) });
  }
  expect(await bench.db.selectFrom("cache_path").select("store_path").execute()).toEqual([]);
});

test("an attempt makes one path of an output: it cannot fill a cache with others", async () => {
  await push(1, await made("hi"));
  await push(2, await made("ho"));
  const message = expect.stringMatching(/is not the output that was uploaded before/);
  expect(await worker.next("nar_refused")).toMatchObject({ upload: 2, message });
});

test("a worker that comes back after its session was lost still delivers what only the build could place", async () => {
  const { workerId, tokens } = worker;
  worker.connection.close(1001, "gone");
  worker = bench.worker({ workerId, tokens });
  expect(await worker.register({ attempts: [attempt] })).toEqual([attempt]);
  const thing = await made("hi");
  await push(1, thing);
  worker.send({ type: "job_result", attempt, uploads: [1], result: builtAt(thing.path) });
  await worker.next("job_result_ack");
  expect(await output()).toEqual({ store_path: storePathBaseName(thing.path), available: true });
});
