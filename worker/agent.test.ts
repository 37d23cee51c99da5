import { afterEach, beforeEach, expect, test } from "vitest";
import { concatBytes, fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { PROTOCOL_VERSION, WORKER_BUILDS_MAX } from "#core/protocol/limits.ts";
import type { BuildResult, EvaluationResult } from "#core/protocol/worker-messages.ts";
import { storePath } from "#test/support/derivations.ts";
import { type FakeServer, FakeServers, ORGANIZATION } from "#test/support/fake-server.ts";
import { type RecordingLogger, recordingLogger } from "#test/support/recording-logger.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { Agent, type AgentOptions } from "./agent.ts";
import type { AttemptLink } from "./link.ts";

const DRV = storePath("/nix/store/00000000000000000000000000000000-thing.drv");
const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };

interface Job<Result> {
  readonly link: AttemptLink;
  readonly end: (result: Result) => void;
  readonly fail: (error: Error) => void;
}

let folder: TemporaryFolder;
let servers: FakeServers;
let log: RecordingLogger;
let agent: Agent;
let running: Promise<void>;
let builds: (Job<BuildResult> & { readonly aterm: string })[];
let evaluations: Job<EvaluationResult>[];

beforeEach(async () => {
  folder = await withTemporaryFolder();
  servers = new FakeServers();
  log = recordingLogger();
  builds = [];
  evaluations = [];
});

afterEach(async () => {
  await agent.abort();
  await running;
  await folder[Symbol.asyncDispose]();
});

/** `isStubborn`: builds do not stop when their attempts end. */
function start({ slots = 2, isStubborn = false, clock = systemClock } = {}): void {
  const options: AgentOptions = {
    workerId: "7f1de7a4-3b5c-4d6e-8f90-a1b2c3d4e5f6",
    capabilities: { fetch: true, eval: true, build: true, sign: false, federate: false },
    facts: {
      architectures: ["x86_64-linux"],
      systemFeatures: [],
      maxConcurrentBuilds: slots,
      maxConcurrentEvaluations: 1,
      cpuCount: 4,
      ramTotalMb: 4096,
    },
    dataDir: folder.path,
    connect: servers.connect,
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: "secret" })),
    build: (_job, aterm, link) =>
      run(
        link,
        (job) => {
          builds.push({ ...job, aterm: fromUtf8(aterm) });
        },
        isStubborn,
      ),
    evaluate: (_job, link) =>
      run(link, (job) => {
        evaluations.push(job);
      }),
    clock,
    log,
  };
  agent = new Agent(options);
  running = agent.run();
}

/** Work that ends when the test says so, or with its attempt. */
function run<Result>(link: AttemptLink, started: (job: Job<Result>) => void, isStubborn = false): Promise<Result> {
  return new Promise((resolve, reject) => {
    if (!isStubborn) link.signal.addEventListener("abort", () => reject(link.signal.reason as Error), { once: true });
    started({ link, end: resolve, fail: reject });
  });
}

function attemptId(number: number): string {
  return `01890000-0000-7000-8000-${String(number).padStart(12, "0")}`;
}

async function assignBuild(server: FakeServer, number: number): Promise<void> {
  const stream = server.connection.openStream();
  server.send({
    type: "assign_job",
    attempt: attemptId(number),
    job: {
      kind: "build",
      build: attemptId(1_000 + number),
      organization: ORGANIZATION,
      drv_path: DRV,
      drv: { stream: stream.id, size: 3 },
      inputs: [],
      timeout_ms: 0,
      max_silent_ms: 0,
    },
  });
  await stream.pipe(streamOf(utf8("drv")));
}

function assignEvaluation(server: FakeServer, number: number): void {
  const limits = { timeout_ms: 60_000, attributes_max: 10, derivations_max: 10, messages_max: 10 };
  const input = { part: "whole" as const, trusted: true, overrides: [], source: null, ssh_key: null };
  const job = { kind: "evaluation", evaluation: attemptId(1), organization: ORGANIZATION, ...limits } as const;
  const what = { repository: "https://example.org/site", commit: "0".repeat(40), wildcard: "packages.*" };
  server.send({ type: "assign_job", attempt: attemptId(number), job: { ...job, ...what, ...input } });
}

/** Places that the worker has asked to have filled in the session, less those that were. */
function freePlaces(server: FakeServer, kind: "build" | "evaluation", assigned: number): number {
  const asked = server.received.flatMap((message) =>
    message.type === "request_job" && message.kind === kind ? message.free : [],
  );
  return asked.reduce((sum, free) => sum + free, 0) - assigned;
}

test("a worker never asks for more builds than it has places, over all its sessions", async () => {
  start({ slots: 3 });
  const first = await servers.session(0);
  await first.register();
  await expect.poll(() => freePlaces(first, "build", 0)).toBe(3);
  for (let i = 0; i < 3; i++) await assignBuild(first, i);
  await expect.poll(() => builds.length).toBe(3);
  builds[0]?.end(BUILT);
  first.send({ type: "job_result_ack", attempt: (await first.next("job_result")).attempt });
  await expect.poll(() => freePlaces(first, "build", 3)).toBe(1);

  first.connection.close(1001, "lost");
  const second = await servers.session(1);
  await second.register();

  await expect.poll(() => freePlaces(second, "build", 0)).toBe(1);
  builds[1]?.end(BUILT);
  const { attempt } = await second.next("job_result");
  expect(freePlaces(second, "build", 0)).toBe(1);
  second.send({ type: "job_result_ack", attempt });
  await expect.poll(() => freePlaces(second, "build", 0)).toBe(2);
});

test("a builder's place is filled again while its outputs are uploaded, but uploads never pile up", async () => {
  start({ slots: 1 });
  const server = await servers.session(0);
  await server.register();
  await assignBuild(server, 0);
  await expect.poll(() => builds.length).toBe(1);
  builds[0]?.link.builderEnded();
  await expect.poll(() => freePlaces(server, "build", 1)).toBe(1);

  await assignBuild(server, 1);
  await expect.poll(() => builds.length).toBe(2);
  builds[1]?.link.builderEnded();
  builds[0]?.end(BUILT);
  server.send({ type: "job_result_ack", attempt: (await server.next("job_result")).attempt });
  // The first one's place was filled already; the second one's is, now that an upload has ended.
  await expect.poll(() => freePlaces(server, "build", 2)).toBe(1);
});

test("no worker offers more builds than a session has streams for", async () => {
  start({ slots: 5_000 });
  const server = await servers.session(0);
  await server.next("init_connection");
  server.received.length = 0;
  server.send({ type: "auth_challenge", peers: [ORGANIZATION] });
  await server.next("auth_response");
  const capabilities = { fetch: true, eval: true, build: true, sign: false, federate: false };
  const peers = { authorized_peers: [ORGANIZATION], failed_peers: [], lease_ms: 60_000 };
  server.send({ type: "init_ack", version: PROTOCOL_VERSION, capabilities, ...peers });

  expect((await server.next("worker_capabilities")).groups[0]?.max_concurrent_builds).toBe(WORKER_BUILDS_MAX);
  server.send({ type: "attempts", held: [] });
  await expect.poll(() => freePlaces(server, "build", 0)).toBe(WORKER_BUILDS_MAX);
});

test("a worker that drains finishes and reports what runs, refuses what is new, and ends", async () => {
  start();
  const server = await servers.session(0);
  await server.register();
  await assignBuild(server, 1);
  await expect.poll(() => builds.length).toBe(1);
  expect(await server.next("assign_job_response")).toMatchObject({ attempt: attemptId(1), accepted: true });

  const drained = agent.drain();
  await server.next("draining");
  await assignBuild(server, 2).catch(() => {});
  expect(await server.next("assign_job_response")).toEqual({
    type: "assign_job_response",
    attempt: attemptId(2),
    accepted: false,
    reason: "the worker is draining",
  });
  builds[0]?.end(BUILT);
  const { attempt } = await server.next("job_result");
  expect(attempt).toBe(attemptId(1));
  server.send({ type: "job_result_ack", attempt });

  await drained;
  await running;
  expect(server.count("request_job")).toBe(2);
});

test("a draining worker that loses its session reports on the next one, and says again that it drains", async () => {
  start();
  const first = await servers.session(0);
  await first.register();
  await assignBuild(first, 1);
  await expect.poll(() => builds.length).toBe(1);
  const drained = agent.drain();
  await first.next("draining");
  first.connection.close(1001, "lost");

  const second = await servers.session(1);
  await second.register();
  await second.next("draining");
  builds[0]?.end(BUILT);
  second.send({ type: "job_result_ack", attempt: (await second.next("job_result")).attempt });

  await drained;
  expect(second.count("request_job")).toBe(0);
});

test("what the server no longer knows of is stopped", async () => {
  start();
  const first = await servers.session(0);
  await first.register();
  await assignBuild(first, 1);
  await assignBuild(first, 2);
  await expect.poll(() => builds.length).toBe(2);
  first.connection.close(1001, "lost");

  await (await servers.session(1)).register({ held: { [attemptId(2)]: 0 } });

  await expect.poll(() => builds[0]?.link.signal.aborted).toBe(true);
  expect(builds[0]?.link.signal.reason.message).toBe("the server no longer knows of it");
  expect(builds[1]?.link.signal.aborted).toBe(false);
});

test("when no server is reached for as long as the lease holds, everything that runs is stopped", async () => {
  start();
  const server = await servers.session(0);
  await server.register({ leaseMs: 300 });
  await assignBuild(server, 1);
  assignEvaluation(server, 2);
  await expect.poll(() => builds.length + evaluations.length).toBe(2);
  servers.down = "connect ECONNREFUSED";
  server.connection.close(1001, "away");

  await expect.poll(() => builds[0]?.link.signal.aborted).toBe(true);
  expect(builds[0]?.link.signal.reason.message).toBe("no server was reached while the lease lasted");
  expect(evaluations[0]?.link.signal.aborted).toBe(true);

  servers.down = null;
  expect(await (await servers.session(1)).greet()).toEqual([]);
});

/** Leases of this length run out when the test says so. */
const LEASE_MS = 54_321;
function leaseClock(): { readonly clock: Clock; readonly runOut: () => void } {
  let runOut = () => {};
  const schedule: Clock["schedule"] = (ms, action) => {
    if (ms !== LEASE_MS) return systemClock.schedule(ms, action);
    runOut = action;
    return () => {};
  };
  return { clock: { ...systemClock, schedule }, runOut: () => runOut() };
}

test("what was given up while the server looked for it is handed back: nobody waits for it", async () => {
  const { clock, runOut } = leaseClock();
  start({ clock });
  const first = await servers.session(0);
  await first.register({ leaseMs: LEASE_MS });
  await assignBuild(first, 1);
  await expect.poll(() => builds.length).toBe(1);
  first.connection.close(1001, "away");

  const second = await servers.session(1);
  const named = await second.greet({ leaseMs: LEASE_MS });
  expect(named).toEqual([attemptId(1)]);
  runOut();
  expect(builds[0]?.link.signal.aborted).toBe(true);
  second.send({ type: "attempts", held: named.map((attempt) => ({ attempt, log_bytes: 0 })) });
  expect(await second.next("assign_job_response")).toMatchObject({ attempt: attemptId(1), accepted: false });
});

test("what is ended and has not stopped yet is not named: it will report nothing", async () => {
  const { clock, runOut } = leaseClock();
  start({ isStubborn: true, clock });
  const first = await servers.session(0);
  await first.register({ leaseMs: LEASE_MS });
  await assignBuild(first, 1);
  await expect.poll(() => builds.length).toBe(1);
  servers.down = "connect ECONNREFUSED";
  first.connection.close(1001, "away");
  await expect.poll(() => agent.state.isConnected).toBe(false);
  runOut();
  expect(builds[0]?.link.signal.aborted).toBe(true);
  servers.down = null;
  expect(await (await servers.session(1)).greet()).toEqual([]);
  builds[0]?.fail(builds[0].link.signal.reason as Error);
});

test("an abort from the server ends the attempt, and its place is free again", async () => {
  start({ slots: 1 });
  const server = await servers.session(0);
  await server.register();
  await assignBuild(server, 1);
  await expect.poll(() => builds.length).toBe(1);

  server.send({ type: "abort_job", attempt: attemptId(1), reason: "the evaluation was aborted" });

  await expect.poll(() => freePlaces(server, "build", 1)).toBe(1);
  expect(server.count("job_result")).toBe(0);
});

test("work that fails in a way nobody foresaw is reported as failed, and told in the worker's log", async () => {
  start();
  const server = await servers.session(0);
  await server.register();
  await assignBuild(server, 1);
  assignEvaluation(server, 2);
  await expect.poll(() => builds.length + evaluations.length).toBe(2);

  builds[0]?.fail(new TypeError("a bug"));
  evaluations[0]?.fail(new TypeError("another bug"));

  const results = [await server.next("job_result"), await server.next("job_result")];
  for (const { attempt } of results) server.send({ type: "job_result_ack", attempt });
  results.sort((a, b) => a.result.kind.localeCompare(b.result.kind));
  expect(results.map(({ result }) => result)).toMatchObject([
    { kind: "build", status: "failed", failure: { class: "transient", message: "a bug" } },
    { kind: "evaluation", status: "failed", failure: { class: "transient", message: "another bug" } },
  ]);
  expect(log.lines.filter(({ level }) => level === "error")).toHaveLength(2);
});

test("a failed build says why at the end of its log", async () => {
  start();
  const server = await servers.session(0);
  const logs: Promise<Uint8Array>[] = [];
  server.onMessage = (message) => {
    if (message.type === "log_open") logs.push(collect(server.connection.acceptStream(message.stream), 1e6));
  };
  await server.register();
  await assignBuild(server, 1);
  await expect.poll(() => builds.length).toBe(1);
  builds[0]?.link.log(utf8("working\n"));

  const message = "the builder wrote nothing for 60 s, the longest silence that is allowed";
  builds[0]?.end({ ...BUILT, status: "failed", failure: { class: "silent_timeout", message, missing: [] } });

  server.send({ type: "job_result_ack", attempt: (await server.next("job_result")).attempt });
  expect(fromUtf8(concatBytes(await Promise.all(logs)))).toBe(`working\n=== build failed: ${message}\n`);
});

test("a result that the protocol has no room for becomes a failure that says so", async () => {
  start();
  const server = await servers.session(0);
  await server.register();
  await assignBuild(server, 1);
  await expect.poll(() => builds.length).toBe(1);

  builds[0]?.end({ ...BUILT, outputs: Array.from({ length: 1_001 }, (_, i) => ({ name: `o${i}`, path: DRV })) });

  const { attempt, result } = await server.next("job_result");
  server.send({ type: "job_result_ack", attempt });
  expect(result.failure?.message).toBe("its result could not be reported: job_result: more than 1000 items");
});

test("a build whose derivation was lost with the session is not named on the next one", async () => {
  start();
  const first = await servers.session(0);
  await first.register();
  const stream = first.connection.openStream();
  const what = { organization: ORGANIZATION, drv_path: DRV, inputs: [], timeout_ms: 0, max_silent_ms: 0 };
  const job = { kind: "build", build: attemptId(9), drv: { stream: stream.id, size: 3 }, ...what } as const;
  first.send({ type: "assign_job", attempt: attemptId(1), job });
  await first.next("assign_job_response");
  first.connection.close(1001, "lost");

  expect(await (await servers.session(1)).greet()).toEqual([]);
  expect(builds).toEqual([]);
  expect(log.lines.filter(({ level }) => level === "error")).toEqual([]);
});

test("a worker that gives up hands back what it runs before it leaves: nobody waits for its leases", async () => {
  start();
  const server = await servers.session(0);
  await server.register();
  await assignBuild(server, 1);
  await expect.poll(() => builds.length).toBe(1);
  assignEvaluation(server, 2);
  await expect.poll(() => evaluations.length).toBe(1);

  await agent.abort();
  await expect.poll(() => server.closed).toBe("the worker is stopping");

  const handedBack = server.received.flatMap((message) =>
    message.type === "assign_job_response" && !message.accepted ? [[message.attempt, message.reason]] : [],
  );
  expect(handedBack).toEqual([
    [attemptId(1), "the worker is stopping"],
    [attemptId(2), "the worker is stopping"],
  ]);
});

test("a worker whose machine offers something else says so in its session, and asks for its places anew", async () => {
  start({ slots: 3 });
  const server = await servers.session(0);
  await server.register();
  await expect.poll(() => freePlaces(server, "build", 0)).toBe(3);
  await assignBuild(server, 1);
  await assignBuild(server, 2);
  await expect.poll(() => builds.length).toBe(2);

  const facts = { maxConcurrentBuilds: 1, maxConcurrentEvaluations: 1, cpuCount: 8, ramTotalMb: 4096 };
  agent.describe({ ...facts, architectures: ["aarch64-linux"], systemFeatures: ["kvm"] });

  await expect
    .poll(() => server.received.findLast(({ type }) => type === "worker_capabilities"))
    .toMatchObject({
      groups: [{ architectures: ["aarch64-linux"], system_features: ["kvm"], max_concurrent_builds: 1 }],
      attempts: null,
    });
  // Two builds run where one has a place: no more is asked for, and what crosses is handed back.
  const before = freePlaces(server, "build", 0);
  await assignBuild(server, 3).catch(() => {});
  await expect
    .poll(() => server.received.findLast(({ type }) => type === "assign_job_response"))
    .toMatchObject({ attempt: attemptId(3), accepted: false, reason: "all places of the worker are taken" });
  expect(freePlaces(server, "build", 0)).toBe(before);
});

test("a worker whose tokens have changed asks to be challenged, and answers in mid-session", async () => {
  start();
  const server = await servers.session(0);
  await server.register();
  agent.renewTokens();
  await server.next("reauth_request");
  server.send({ type: "auth_challenge", peers: [ORGANIZATION] });

  expect(await server.next("auth_response")).toEqual({
    type: "auth_response",
    tokens: [{ peer: ORGANIZATION, token: "secret" }],
  });
  server.send({ type: "auth_update", authorized_peers: [ORGANIZATION], failed_peers: [] });
  await assignBuild(server, 1);
  await expect.poll(() => builds.length).toBe(1);
  expect(server.closed).toBeNull();
});
