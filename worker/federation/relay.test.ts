import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { type ByteStream, collect, streamOf } from "#core/lib/streams.ts";
import { STREAM_WINDOW_BYTES } from "#core/protocol/limits.ts";
import type { BuildResult, WorkerMessage } from "#core/protocol/worker-messages.ts";
import { storePath } from "#test/support/derivations.ts";
import { type FakeServer, FakeServers } from "#test/support/fake-server.ts";
import { FakeWorker } from "#test/support/fake-worker.ts";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { Relay } from "./relay.ts";
import { RELAY_BUILDS_MAX } from "./relay-limits.ts";

const ACME = "01890000-0000-7000-8000-00000000000a";
const OTHER = "01890000-0000-7000-8000-00000000000b";
const RELAY_ID = "7f1de7a4-3b5c-4d6e-8f90-a1b2c3d4e5f6";
const PATH = storePath("/nix/store/00000000000000000000000000000000-thing");
const DRV = storePath(`${PATH}.drv`);
const INFO = { path: PATH, nar_hash: "0".repeat(64), nar_size: 3, references: [], deriver: null, ca: null };
const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };
const X86 = { architectures: ["x86_64-linux"], system_features: ["kvm"] };
const ARM = { architectures: ["aarch64-linux"], system_features: [] };

type Capabilities = Extract<WorkerMessage, { type: "worker_capabilities" }>;

let folder: TemporaryFolder;
let servers: FakeServers;
let relay: Relay;
let running: Promise<void>;
/** Tokens by worker and organization, as the relay's operator has written them. */
let tokens: Map<string, { byOrganization: Map<string, string>; any: string | null }>;

beforeEach(async () => {
  folder = await withTemporaryFolder();
  servers = new FakeServers();
  tokens = new Map();
  start();
});

afterEach(async () => {
  await relay.abort();
  await running;
  await folder[Symbol.asyncDispose]();
});

function start({ workersMax = 16 } = {}): void {
  relay = new Relay({
    workerId: RELAY_ID,
    able: { fetch: true, eval: true, build: true },
    dataDir: folder.path,
    workersMax,
    connect: servers.connect,
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: "of the relay" })),
    readTokens: async () => ({ workers: tokens, problems: [] }),
    clock: systemClock,
    log: recordingLogger(),
  });
  running = relay.run();
}

async function attached(session = 0, options: Parameters<FakeServer["register"]>[0] = {}): Promise<FakeServer> {
  const server = await servers.session(session);
  await server.register({ peers: [ACME, OTHER], ...options });
  return server;
}

interface Behind {
  readonly workerId?: string;
  readonly organizations?: readonly string[];
  readonly groups?: Capabilities["groups"];
  readonly attempts?: string[];
  readonly free?: number;
  readonly extra?: Partial<Capabilities>;
}

/** A worker behind the relay that has gone through the handshake and asks for all its places. */
async function behind({
  workerId = randomUUID(),
  organizations = [ACME, OTHER],
  groups = [{ ...X86, max_concurrent_builds: 2 }],
  attempts = [],
  free = 2,
  extra = {},
}: Behind = {}): Promise<FakeWorker> {
  const own = Object.fromEntries(organizations.map((id) => [id, `${workerId} for ${id}`]));
  tokens.set(workerId, { byOrganization: new Map(Object.entries(own)), any: null });
  const worker = new FakeWorker((socket) => relay.accept(socket), { workerId, tokens: own });
  await worker.authenticate();
  await worker.next("init_ack");
  const machine = { max_concurrent_evaluations: 0, cpu_count: 4, ram_total_mb: 4096 };
  worker.send({ type: "worker_capabilities", groups, ...machine, attempts, ...extra });
  await expect.poll(() => worker.count("attempts")).toBe(1);
  for (const group of groups.keys()) worker.send({ type: "request_job", kind: "build", group, free });
  return worker;
}

/** What the server was told last, and what it was asked for since. */
function told(server: FakeServer): { capabilities: Capabilities; asked: Record<number, number> } {
  const index = server.received.findLastIndex(({ type }) => type === "worker_capabilities");
  const asked: Record<number, number> = {};
  for (const message of server.received.slice(index)) {
    if (message.type !== "request_job" || message.kind !== "build") continue;
    asked[message.group ?? 0] = (asked[message.group ?? 0] ?? 0) + message.free;
  }
  return { capabilities: server.received[index] as Capabilities, asked };
}

function attemptId(number: number): string {
  return `01890000-0000-7000-8000-${String(number).padStart(12, "0")}`;
}

async function assign(server: FakeServer, number: number, group = 0, organization = ACME): Promise<string> {
  const attempt = attemptId(number);
  const stream = server.connection.openStream();
  const limits = { inputs: [], timeout_ms: 0, max_silent_ms: 0 };
  const job = { kind: "build", build: attempt, organization, drv_path: DRV, ...limits } as const;
  server.send({ type: "assign_job", attempt, group, job: { ...job, drv: { stream: stream.id, size: 3 } } });
  await stream.pipe(streamOf(utf8("drv"))).catch(() => {});
  return attempt;
}

/** Accepts a job as a worker does. Answers the derivation's bytes. */
function accepting(worker: FakeWorker): Map<string, Promise<string>> {
  const derivations = new Map<string, Promise<string>>();
  worker.onMessage = (message) => {
    if (message.type !== "assign_job" || message.job.kind !== "build") return;
    const drv = worker.connection.acceptStream(message.job.drv.stream);
    derivations.set(message.attempt, collect(drv, 100).then(fromUtf8));
    worker.send({ type: "assign_job_response", attempt: message.attempt, accepted: true });
  };
  return derivations;
}

/** The streams that come with messages of this type, as the server accepts them. */
function streamsOf(server: FakeServer): ByteStream[] {
  const streams: ByteStream[] = [];
  server.onMessage = (message) => {
    if ("stream" in message) streams.push(server.connection.acceptStream(message.stream));
  };
  return streams;
}

test("workers that are alike are one group, others another; never is there a union", async () => {
  const server = await attached();
  await behind();
  await behind({ groups: [{ ...X86, max_concurrent_builds: 3 }], free: 3 });
  await behind({ groups: [{ ...ARM, max_concurrent_builds: 1 }], free: 1 });

  await expect.poll(() => told(server).asked).toEqual({ 0: 5, 1: 1 });
  const organizations = [ACME, OTHER];
  expect(told(server).capabilities.groups).toEqual([
    { ...X86, max_concurrent_builds: 5, organizations },
    { ...ARM, max_concurrent_builds: 1, organizations },
  ]);
  expect(told(server).capabilities).toMatchObject({ cpu_count: 12, ram_total_mb: 12_288, attempts: null });
});

test("what can be evaluated behind a relay is told machine by machine, and keys of all that sign", async () => {
  const server = await attached();
  await behind({ extra: { max_concurrent_evaluations: 2, signing_key: "one:AAAA" } });
  const evaluation_groups = [{ fetch: true, eval: false, max_concurrent_evaluations: 3 }];
  await behind({ extra: { evaluation_groups, signing_key: "two:BBBB" } });

  await expect.poll(() => told(server).capabilities.evaluation_groups?.length).toBe(2);
  const { capabilities } = told(server);
  expect(capabilities.evaluation_groups).toMatchObject([
    { fetch: true, eval: true, max_concurrent_evaluations: 2 },
    { fetch: true, eval: false, max_concurrent_evaluations: 3 },
  ]);
  expect(capabilities.max_concurrent_evaluations).toBe(5);
  expect(capabilities.signing_keys).toEqual(["one:AAAA", "two:BBBB"]);
});

test("a job of an organization goes to no worker that is not for it", async () => {
  const server = await attached();
  const acme = await behind({ organizations: [ACME] });
  const other = await behind({ organizations: [OTHER] });
  await expect.poll(() => told(server).asked).toEqual({ 0: 2, 1: 2 });
  expect(told(server).capabilities.groups.map((group) => group.organizations)).toEqual([[ACME], [OTHER]]);

  await assign(server, 1, 1, OTHER);
  expect((await other.next("assign_job")).attempt).toBe(attemptId(1));
  await assign(server, 2, 1, ACME);

  expect(await server.next("assign_job_response")).toMatchObject({ attempt: attemptId(2), accepted: false });
  expect([acme.count("assign_job"), other.count("assign_job")]).toEqual([0, 1]);
});

test("a job, its log, its NARs, its questions and its result pass, each side under its own numbers", async () => {
  const server = await attached();
  const worker = await behind();
  const derivations = accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  expect(await server.next("assign_job_response")).toMatchObject({ attempt, accepted: true });
  expect(await derivations.get(attempt)).toBe("drv");

  worker.send({ type: "cache_query", query: 70, attempt, paths: [PATH] });
  const { query } = await server.next("cache_query");
  server.send({ type: "cache_status", query, present: [INFO] });
  expect(await worker.next("cache_status")).toMatchObject({ query: 70, present: [INFO] });

  worker.send({ type: "nar_request", request: 80, attempt, path: PATH });
  const { request } = await server.next("nar_request");
  const nar = server.connection.openStream();
  let received: Promise<string> | null = null;
  worker.onMessage = (message) => {
    if (message.type !== "nar_offer") return;
    received = collect(worker.connection.acceptStream(message.stream), 100).then(fromUtf8);
  };
  server.send({ type: "nar_offer", request, info: INFO, compression: "none", file_size: 3, stream: nar.id });
  await nar.pipe(streamOf(utf8("nar")));
  expect(await worker.next("nar_offer")).toMatchObject({ request: 80, info: INFO });
  expect(await received).toBe("nar");

  const streams = streamsOf(server);
  const log = worker.connection.openStream();
  worker.send({ type: "log_open", attempt, offset: 0, stream: log.id });
  const output = worker.connection.openStream();
  const push = { attempt, target: "output", info: INFO, compression: "none", with_result: true } as const;
  worker.send({ type: "nar_push", upload: 90, ...push, signatures: ["one:AAAA"], stream: output.id });
  worker.send({ type: "job_result", attempt, uploads: [90], result: BUILT });
  await expect.poll(() => server.count("nar_push") + server.count("log_open")).toBe(2);
  // The log leaves before the result.
  expect(server.count("job_result")).toBe(0);
  await log.pipe(streamOf(utf8("log")));
  const pushed = await server.next("nar_push");
  expect(pushed.signatures).toEqual(["one:AAAA"]);
  expect(await server.next("job_result")).toMatchObject({ uploads: [pushed.upload], result: BUILT });
  await output.pipe(streamOf(utf8("out")));
  const bodies = await Promise.all(streams.map((stream) => collect(stream, 100)));
  expect(bodies.map(fromUtf8).sort()).toEqual(["log", "out"]);

  server.send({ type: "job_result_ack", attempt });
  expect(await worker.next("job_result_ack")).toMatchObject({ attempt });
});

test("what a worker says of another's attempts is answered as by a server, and goes no further", async () => {
  const server = await attached();
  const owner = await behind({ groups: [{ ...ARM, max_concurrent_builds: 1 }], free: 1 });
  const thief = await behind();
  accepting(owner);
  await expect.poll(() => told(server).asked).toEqual({ 0: 1, 1: 2 });
  const attempt = await assign(server, 1, 0);
  await owner.next("assign_job");

  thief.send({ type: "cache_query", query: 1, attempt, paths: [PATH] });
  thief.send({ type: "nar_request", request: 2, attempt, path: PATH });
  const push = { attempt, target: "output", info: INFO, compression: "none" } as const;
  thief.send({ type: "nar_push", upload: 3, ...push, stream: thief.connection.openStream().id });
  thief.send({ type: "job_result", attempt, result: BUILT });
  thief.send({ type: "assign_job_response", attempt, accepted: false });

  expect(await thief.next("query_error")).toMatchObject({ query: 1, message: "the lease has ended" });
  expect(await thief.next("nar_unavailable")).toMatchObject({ request: 2, retry: false });
  expect(await thief.next("nar_refused")).toMatchObject({ upload: 3, retry: false });
  await thief.next("job_result_ack");
  expect(await server.next("assign_job_response")).toMatchObject({ accepted: true });
  for (const type of ["cache_query", "nar_request", "nar_push", "job_result", "assign_job_response"] as const) {
    expect(server.count(type), type).toBe(type === "assign_job_response" ? 1 : 0);
  }
});

test("a worker that reads nothing is held back alone, and the relay holds no more than windows of it", async () => {
  const server = await attached();
  const [slow, quick] = [await behind(), await behind({ groups: [{ ...ARM, max_concurrent_builds: 2 }] })];
  accepting(slow);
  accepting(quick);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2, 1: 2 });
  const [one, two] = [await assign(server, 1, 0), await assign(server, 2, 1)];
  await slow.next("assign_job");
  await quick.next("assign_job");

  const serve = async (worker: FakeWorker, attempt: string, bytes: number) => {
    const streams: ByteStream[] = [];
    worker.onMessage = (message) => {
      if (message.type === "nar_offer") streams.push(worker.connection.acceptStream(message.stream));
    };
    worker.send({ type: "nar_request", request: 1, attempt, path: PATH });
    const { request } = await server.next("nar_request");
    const stream = server.connection.openStream();
    server.send({ type: "nar_offer", request, info: INFO, compression: "none", file_size: bytes, stream: stream.id });
    let sent = 0;
    const sending = (async () => {
      const piece = new Uint8Array(STREAM_WINDOW_BYTES / 16);
      for (; sent < bytes; sent += piece.length) await stream.write(piece);
      await stream.end();
    })().catch(() => {});
    await worker.next("nar_offer");
    return { streams, sending, sent: () => sent };
  };
  const held = await serve(slow, one, 16 * STREAM_WINDOW_BYTES);
  const flowing = await serve(quick, two, 4 * STREAM_WINDOW_BYTES);
  const body = await collect(flowing.streams[0] as ByteStream, 8 * STREAM_WINDOW_BYTES);

  expect(body.length).toBe(4 * STREAM_WINDOW_BYTES);
  // One window on each side of the relay, and the piece in between.
  expect(held.sent()).toBeLessThanOrEqual(2.5 * STREAM_WINDOW_BYTES);
  const rest = await collect(held.streams[0] as ByteStream, 32 * STREAM_WINDOW_BYTES);
  expect(rest.length).toBe(16 * STREAM_WINDOW_BYTES);
});

test("when the server's session is lost the workers' end too, and all attempts come back on the next", async () => {
  const server = await attached();
  const workerId = randomUUID();
  const worker = await behind({ workerId });
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await worker.next("assign_job");

  server.connection.close(1001, "lost");
  await worker.next("draining");
  await expect.poll(() => worker.closed).not.toBeNull();
  // It comes back before the relay has its server again, and waits.
  const back = behind({ workerId, attempts: [attempt, attemptId(9)], free: 1 });
  const next = await servers.session(1);
  await next.register({ peers: [ACME, OTHER], held: { [attempt]: 17 } });

  const returned = await back;
  expect(await returned.next("attempts")).toEqual({ type: "attempts", held: [{ attempt, log_bytes: 17 }] });
  await expect.poll(() => told(next).asked).toEqual({ 0: 1 });
  returned.send({ type: "job_result", attempt, result: BUILT });
  await next.next("job_result");
});

test("a relay that was killed names the attempts of its workers before they are back", async () => {
  const server = await attached();
  const workerId = randomUUID();
  const worker = await behind({ workerId });
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await worker.next("assign_job");
  const killed = relay;
  // Its file is written at once.
  await new Promise((resolve) => setTimeout(resolve, 50));

  start();
  const next = await servers.session(1);
  expect(await next.greet({ peers: [ACME, OTHER] })).toEqual([attempt]);
  next.send({ type: "attempts", held: [{ attempt, log_bytes: 5 }] });
  const returned = await behind({ workerId, attempts: [attempt], free: 1 });

  expect(await returned.next("attempts")).toMatchObject({ held: [{ attempt, log_bytes: 5 }] });
  await killed.abort();
});

test("what a worker no longer has, and what one has that does not come back, is given back", async () => {
  const server = await attached(0, { leaseMs: 300 });
  const workerId = randomUUID();
  const worker = await behind({ workerId });
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const [one, two] = [await assign(server, 1), await assign(server, 2)];
  await expect.poll(() => server.count("assign_job_response")).toBe(2);
  worker.connection.close(1001, "lost");
  await expect.poll(() => told(server).capabilities.groups).toMatchObject([{ max_concurrent_builds: 0 }]);

  const returned = await behind({ workerId, attempts: [two], free: 1 });
  expect((await returned.next("attempts")).held).toEqual([{ attempt: two, log_bytes: 0 }]);
  await expect
    .poll(() => server.received.filter((message) => message.type === "assign_job_response" && !message.accepted))
    .toMatchObject([{ attempt: one, reason: "its worker does not have it any more" }]);
  await expect.poll(() => told(server).asked).toEqual({ 0: 1 });

  returned.connection.close(1001, "lost");
  await expect
    .poll(() => server.received.filter((message) => message.type === "assign_job_response" && !message.accepted))
    .toMatchObject([{ attempt: one }, { attempt: two, reason: "its worker did not come back to the relay" }]);
});

test("a wrong token, an unknown worker and a foreign organization are refused", async () => {
  await attached();
  const stranger = new FakeWorker((socket) => relay.accept(socket));
  stranger.hello();
  expect(await stranger.next("reject")).toMatchObject({ code: 403, reason: expect.stringContaining("does not know") });

  const workerId = randomUUID();
  tokens.set(workerId, { byOrganization: new Map([[ACME, "right"]]), any: null });
  const wrong = new FakeWorker((socket) => relay.accept(socket), { workerId, tokens: { [ACME]: "wrong" } });
  await wrong.authenticate();
  expect(await wrong.next("reject")).toMatchObject({ code: 401, reason: expect.stringContaining("invalid token") });

  tokens.set(workerId, { byOrganization: new Map([[randomUUID(), "right"]]), any: null });
  const foreign = new FakeWorker((socket) => relay.accept(socket), { workerId });
  foreign.hello();
  expect(await foreign.next("reject")).toMatchObject({ code: 403, reason: expect.stringContaining("none of the") });
});

test("an organization that no longer lets the relay in has no workers behind it from then on", async () => {
  const server = await attached();
  const both = await behind();
  const only = await behind({ organizations: [OTHER] });
  await expect.poll(() => told(server).asked).toEqual({ 0: 2, 1: 2 });

  server.send({ type: "auth_update", authorized_peers: [ACME], failed_peers: [] });
  expect(await both.answerChallenge()).toEqual([ACME]);

  await expect.poll(() => only.closed).not.toBeNull();
  await expect
    .poll(() => told(server).capabilities.groups.filter((group) => group.max_concurrent_builds > 0))
    .toMatchObject([{ organizations: [ACME] }]);
});

test("a worker that the operator takes out of the file is sent away, and what it had is handed back", async () => {
  const server = await attached();
  const worker = await behind();
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await expect.poll(() => server.count("assign_job_response")).toBe(1);

  tokens.delete(worker.workerId);
  await relay.reload();

  expect(await worker.next("abort_job")).toMatchObject({ attempt });
  expect(await worker.next("reject")).toMatchObject({ code: 403 });
  await expect
    .poll(() => server.received.filter((message) => message.type === "assign_job_response" && !message.accepted))
    .toMatchObject([{ attempt, reason: expect.stringContaining("no longer lets this worker in") }]);
  await server.next("reauth_request");
});

test("a worker that drains is given nothing more, and a relay that drains waits for what runs", async () => {
  const server = await attached();
  const [stays, leaves] = [await behind(), await behind()];
  accepting(stays);
  await expect.poll(() => told(server).asked).toEqual({ 0: 4 });
  leaves.send({ type: "draining" });
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await stays.next("assign_job");

  const drained = relay.drain();
  await server.next("draining");
  await assign(server, 2);
  await expect
    .poll(() => server.received.filter((message) => message.type === "assign_job_response" && !message.accepted))
    .toMatchObject([{ attempt: attemptId(2), reason: "the relay is draining" }]);
  stays.send({ type: "job_result", attempt, result: BUILT });
  await server.next("job_result");
  server.send({ type: "job_result_ack", attempt });
  await stays.next("job_result_ack");

  await drained;
  await running;
  expect(await stays.next("draining")).toEqual({ type: "draining" });
});

test("a relay that is told to stop at once hands back what is behind it, and its workers stop it", async () => {
  const server = await attached();
  const worker = await behind();
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await expect.poll(() => server.count("assign_job_response")).toBe(1);

  await relay.abort();
  await running;

  expect(await worker.next("abort_job")).toMatchObject({ attempt, reason: "the relay is stopping" });
  await expect
    .poll(() => server.received.filter((message) => message.type === "assign_job_response" && !message.accepted))
    .toMatchObject([{ attempt, reason: "the relay is stopping" }]);
});

test("a relay offers no more builds than a session has streams for, and fills no more", async () => {
  const server = await attached();
  const places = 100;
  await behind({ groups: [{ ...X86, max_concurrent_builds: places }], free: places });
  await behind({ groups: [{ ...ARM, max_concurrent_builds: places }], free: places });

  await expect.poll(() => told(server).asked).toEqual({ 0: places, 1: RELAY_BUILDS_MAX - places });
  const { groups } = told(server).capabilities;
  expect(groups.map((group) => group.max_concurrent_builds)).toEqual([places, RELAY_BUILDS_MAX - places]);
});

test("a newer session of a worker replaces the older, also where there is no place for another", async () => {
  await servers.session(0);
  await relay.abort();
  await running;
  start({ workersMax: 1 });
  await attached(1);
  const workerId = randomUUID();
  const older = await behind({ workerId });
  const stranger = randomUUID();
  tokens.set(stranger, { byOrganization: new Map([[ACME, "token"]]), any: null });
  const second = new FakeWorker((socket) => relay.accept(socket), { workerId: stranger, tokens: { [ACME]: "token" } });
  await second.authenticate();
  await second.next("init_ack");
  second.introduce();
  expect(await second.next("reject")).toMatchObject({ code: 503, reason: expect.stringContaining("is 1") });
  expect(relay.hasRoom).toBe(false);

  await behind({ workerId });

  await expect.poll(() => older.closed).toBe("a newer session of this worker has begun");
});

test("an abort of the server reaches the worker that has the attempt", async () => {
  const server = await attached();
  const worker = await behind();
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await worker.next("assign_job");
  server.send({ type: "abort_job", attempt, reason: "somebody said so" });

  expect(await worker.next("abort_job")).toEqual({ type: "abort_job", attempt, reason: "somebody said so" });
});
