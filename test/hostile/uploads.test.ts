import { createHash, randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { type StorePath, storePathHash } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { fileNar } from "#test/cache/support.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";
import { insertProjectRow } from "#test/support/rows.ts";

const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };

let bench: HubBench;
beforeEach(async () => {
  bench = await withHub();
});
afterEach(() => bench[Symbol.asyncDispose]());

async function push(worker: FakeWorker, upload: number, attempt: string, path: StorePath): Promise<void> {
  const nar = await fileNar(utf8(`upload ${upload} of ${path}`));
  const stream = worker.connection.openStream();
  const nar_hash = toHex(createHash("sha256").update(nar).digest());
  const info = { path, nar_hash, nar_size: nar.length, references: [], deriver: null, ca: null };
  const rest = { target: "output", compression: "none", stream: stream.id, with_result: true } as const;
  worker.send({ type: "nar_push", upload, attempt, info, ...rest });
  await stream.pipe(streamOf(nar)).catch(() => {});
}

async function isOffered(path: StorePath): Promise<boolean> {
  const rows = await bench.db.selectFrom("cache_path").select("hash").where("hash", "=", storePathHash(path)).execute();
  return rows.length > 0;
}

/** A worker of two organizations that builds for both. */
async function shared() {
  const other = await bench.makeOrganization();
  const workerId = randomUUID();
  const token = `token of ${workerId}`;
  await bench.addRegistration(workerId);
  await bench.addRegistration(workerId, other);
  const worker = bench.worker({ workerId, tokens: { [bench.organizationId]: token, [other]: token } });
  await worker.register();
  const projectId = await insertProjectRow(bench.db, { organizationId: other });
  const builds = [
    await bench.addBuild("ours"),
    await bench.addBuild("theirs", { organizationId: other, projectId }),
  ] as const;
  worker.send({ type: "request_job", kind: "build", free: 2 });
  await expect.poll(() => worker.count("assign_job")).toBe(2);
  const attempts = await bench.db.selectFrom("attempt").select(["id", "build_id"]).execute();
  const attemptOf = (id: string) => attempts.find(({ build_id }) => build_id === id)?.id as string;
  return { worker, ours: { ...builds[0], attempt: attemptOf(builds[0].id) }, theirs: attemptOf(builds[1].id) };
}

test("a result cannot name the upload of another attempt, which may be another organization's", async () => {
  const { worker, ours, theirs } = await shared();
  await push(worker, 1, ours.attempt, ours.output);
  worker.send({ type: "job_result", attempt: theirs, uploads: [1], result: BUILT });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect([await isOffered(ours.output), worker.count("job_result_ack")]).toEqual([false, 0]);

  // It is still there for the result that it belongs to.
  worker.send({ type: "job_result", attempt: ours.attempt, uploads: [1], result: BUILT });
  await worker.next("job_result_ack");
  expect(await isOffered(ours.output)).toBe(true);
});

test("uploads under one number leave nothing behind but the last, and that is what counts", async () => {
  const { worker, ours } = await shared();
  const { blobs } = bench.deps;
  const stored: string[] = [];
  const { put } = blobs;
  Object.assign(blobs, {
    put: async (...args: Parameters<typeof put>) => {
      const done = await put(...args);
      stored.push(args[0]);
      return done;
    },
  });
  for (let i = 1; i <= 5; i++) {
    await push(worker, 7, ours.attempt, ours.output);
    await expect.poll(() => stored.length).toBe(i);
  }
  worker.send({ type: "job_result", attempt: ours.attempt, uploads: [7], result: BUILT });
  await worker.next("job_result_ack");
  const left = async () => (await Promise.all(stored.map((key) => blobs.head(key)))).filter((head) => head !== null);
  await expect.poll(async () => (await left()).length).toBe(1);
});
