import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { fileNar, randomContent } from "#test/cache/support.ts";
import type { Api } from "#test/e2e/api.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { insertReadyBuild } from "#test/support/hub.ts";
import { insertEvaluationRow, insertProjectRow } from "#test/support/rows.ts";
import { addOrganization, type Place, type StartedServer, WAIT, withPlace, withWorker } from "./support.ts";

const MIB = 1024 * 1024;

let place: Place;
let server: StartedServer;
let api: Api;
beforeAll(async () => {
  place = await withPlace();
  server = await place.start({
    GRADIENT_MAX_CONCURRENT_NAR_SERVES: "2",
    GRADIENT_NAR_SEND_CHUNK_TIMEOUT_SECS: "1",
    GRADIENT_MAX_NAR_BUFFER_BYTES: String(4 * MIB),
    GRADIENT_WORKER_SAMPLE_INTERVAL: "1",
    GRADIENT_WORKER_HEARTBEAT_TIMEOUT_SECS: "7",
    GRADIENT_BUILD_MAX_ATTEMPTS: "2",
    GRADIENT_BUILD_RETRY_BACKOFF_SECS: "77",
    GRADIENT_BUILD_DEFAULT_TIMEOUT_SECS: "60",
    GRADIENT_BUILD_DEFAULT_MAX_SILENT_SECS: "30",
    GRADIENT_EVALUATION_TIMEOUT_SECS: "5",
    GRADIENT_EVALUATION_MAX_ATTRIBUTES: "6",
    GRADIENT_EVALUATION_MAX_DERIVATIONS: "7",
    GRADIENT_EVALUATION_MAX_MESSAGES: "8",
  });
  api = server.api();
  await api.signUp("ada");
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

interface Owner {
  readonly organizationId: string;
  readonly projectId: string;
}

/** An organization with one project and one worker. */
async function team(name: string): Promise<{ readonly owner: Owner; readonly worker: FakeWorker }> {
  await addOrganization(api, name);
  const { id: organizationId } = await place.db
    .selectFrom("organization")
    .select("id")
    .where("name", "=", name)
    .executeTakeFirstOrThrow();
  const projectId = await insertProjectRow(place.db, { organizationId });
  return { owner: { organizationId, projectId }, worker: await withWorker(server, api, name) };
}

async function takeBuild(worker: FakeWorker, owner: Owner) {
  const { id, output } = await insertReadyBuild(place.db, { ...owner, name: "thing" });
  worker.send({ type: "request_job", kind: "build", free: 1 });
  await vi.waitUntil(() => worker.count("assign_job") >= 1, WAIT);
  const { attempt, job } = await worker.next("assign_job");
  return { id, output, attempt, job };
}

/** Sends what the attempt has built, of so many bytes that no compression makes fewer. */
async function upload(worker: FakeWorker, attempt: string, path: StorePath, bytes: number): Promise<void> {
  const nar = await fileNar(randomContent(bytes));
  const nar_hash = createHash("sha256").update(nar).digest("hex");
  const info = { path, nar_hash, nar_size: nar.length, references: [], deriver: null, ca: null };
  const stream = worker.connection.openStream();
  const question = { upload: 1, attempt, target: "output", info, compression: "none" } as const;
  worker.send({ type: "nar_push", ...question, stream: stream.id });
  await stream.pipe(streamOf(nar)).catch(() => {});
}

test.concurrent("maxConcurrentNarServes, narSendChunkTimeoutSecs: who takes nothing holds two transfers, 1 s each", {
  timeout: 90_000,
}, async () => {
  const { owner, worker } = await team("serves");
  const { attempt, output } = await takeBuild(worker, owner);
  await upload(worker, attempt, output, 3 * MIB);
  await vi.waitUntil(() => worker.count("nar_committed") >= 1, WAIT);
  let open = 0;
  let most = 0;
  worker.onMessage = (message) => {
    if (message.type === "nar_abort") open--;
    if (message.type !== "nar_offer") return;
    worker.connection.acceptStream(message.stream);
    most = Math.max(most, ++open);
  };

  for (let request = 1; request <= 3; request++) worker.send({ type: "nar_request", request, attempt, path: output });
  await vi.waitUntil(() => worker.count("nar_abort") >= 3, WAIT);

  expect(most).toBe(2);
  expect(await worker.next("nar_abort")).toMatchObject({
    reason: "the worker did not take a piece of the path within 1 s",
  });
  expect(worker.closed).toBeNull();
});

test.concurrent("settings.maxNarBufferBytes: a larger upload than a session may hold is refused", async () => {
  const { owner, worker } = await team("buffers");
  const { attempt, output } = await takeBuild(worker, owner);

  await upload(worker, attempt, output, 5 * MIB);
  await vi.waitUntil(() => worker.count("nar_refused") >= 1, WAIT);

  expect(await worker.next("nar_refused")).toMatchObject({
    retry: false,
    message: "the upload is larger than maxNarBufferBytes, 4194304",
  });
});

test.concurrent("GRADIENT_WORKER_SAMPLE_INTERVAL: what a worker measures is recorded each second", async () => {
  const { worker } = await team("samples");
  const measured = { cpu_usage_pct: 12.5, ram_free_mb: 900, disk_speed_mbps: null, network_speed_mbps: null };
  worker.send({ type: "worker_metrics", ...measured });

  const samples = place.db.selectFrom("worker_sample").select("metrics");
  await vi.waitUntil(async () => (await samples.execute()).length >= 3, WAIT);
});

test.concurrent("GRADIENT_WORKER_HEARTBEAT_TIMEOUT_SECS: so long an unheard worker keeps what it runs", async () => {
  const { owner, worker } = await team("leases");
  const { attempt } = await takeBuild(worker, owner);

  expect(worker.received.find(({ type }) => type === "init_ack")).toMatchObject({ lease_ms: 7_000 });
  const row = await place.db.selectFrom("attempt").selectAll().where("id", "=", attempt).executeTakeFirstOrThrow();
  const leaseMs = Number(row.lease_expires_at) - Number(row.assigned_at);
  expect(leaseMs).toBeGreaterThanOrEqual(7_000);
  expect(leaseMs).toBeLessThan(14_000);
});

test.concurrent("buildDefaultTimeoutSecs, buildDefaultMaxSilentSecs: each build comes with them", async () => {
  const { owner, worker } = await team("timeouts");

  const { job } = await takeBuild(worker, owner);

  expect(job).toMatchObject({ kind: "build", timeout_ms: 60_000, max_silent_ms: 30_000 });
});

test.concurrent("buildRetryBackoffSecs, buildMaxAttempts: tried again after the pause, and so often", async () => {
  const { owner, worker } = await team("retries");
  const { id, attempt } = await takeBuild(worker, owner);
  const failure = { class: "transient" as const, message: "the network was away", missing: [] };
  const result = { kind: "build" as const, status: "failed" as const, outputs: [], failure, build_ms: 1 };
  const build = () =>
    place.db
      .selectFrom("build")
      .select(["status", "retry_at", "updated_at"])
      .where("id", "=", id)
      .executeTakeFirstOrThrow();

  worker.send({ type: "job_result", attempt, result });
  await vi.waitUntil(async () => (await build()).status === BuildStatus.FailedTransient, WAIT);
  const { retry_at, updated_at } = await build();
  expect(Math.round((Number(retry_at) - Number(updated_at)) / 1_000)).toBe(77);

  await place.db
    .updateTable("build")
    .set({ retry_at: new Date(0) })
    .where("id", "=", id)
    .execute();
  worker.send({ type: "request_job", kind: "build", free: 1 });
  await vi.waitUntil(() => worker.count("assign_job") >= 2, WAIT);
  const again = await worker.next("assign_job");
  worker.send({ type: "job_result", attempt: again.attempt, result });
  await vi.waitUntil(async () => (await build()).status === BuildStatus.FailedPermanent, WAIT);
});

test.concurrent("evaluationTimeoutSecs, evaluationMax*: each evaluation comes with them", async () => {
  const { owner, worker } = await team("evaluations");
  await insertEvaluationRow(place.db, { ...owner, status: 0 });

  worker.send({ type: "request_job", kind: "evaluation", free: 1 });
  await vi.waitUntil(() => worker.count("assign_job") >= 1, WAIT);

  expect((await worker.next("assign_job")).job).toMatchObject({
    kind: "evaluation",
    timeout_ms: 5_000,
    attributes_max: 6,
    derivations_max: 7,
    messages_max: 8,
  });
});

test("settings.narStorageOpenTimeoutSecs: a path is unavailable for now when its storage does not answer in a second", {
  timeout: 90_000,
}, async () => {
  const { owner, worker } = await team("storage");
  const { attempt, output } = await takeBuild(worker, owner);
  await upload(worker, attempt, output, 1_000);
  await vi.waitUntil(() => worker.count("nar_committed") >= 1, WAIT);
  worker.connection.close(1000, "done");
  await server[Symbol.asyncDispose]();

  await using silent = await withSilentStorage();
  server = await place.start({
    GRADIENT_NAR_STORAGE_OPEN_TIMEOUT_SECS: "1",
    GRADIENT_SCRUB_BYTES_PER_SECOND: "0",
    GRADIENT_S3_BUCKET: "nars",
    GRADIENT_S3_ENDPOINT: silent.endpoint,
    GRADIENT_S3_ACCESS_KEY_ID: "key",
    GRADIENT_S3_SECRET_ACCESS_KEY_FILE: place.required.GRADIENT_JWT_SECRET_FILE as string,
  });
  api = Object.assign(server.api(), { token: api.token });
  const asking = await withWorker(server, api, "storage");
  const next = await takeBuild(asking, owner);
  asking.send({ type: "nar_request", request: 1, attempt: next.attempt, path: output });
  await vi.waitUntil(() => asking.count("nar_unavailable") >= 1, WAIT);

  expect(await asking.next("nar_unavailable")).toMatchObject({
    request: 1,
    reason: "the server could not read it from its storage",
    retry: true,
  });
  expect(silent.asked()).toBeGreaterThan(0);
});

/** Takes connections of S3's clients, and never answers. */
async function withSilentStorage(): Promise<AsyncDisposable & { endpoint: string; asked: () => number }> {
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    socket.resume();
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    endpoint: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    asked: () => sockets.length,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      listener.close();
    },
  };
}
