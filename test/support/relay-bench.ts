import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect } from "vitest";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { type ByteStream, collect, streamOf } from "#core/lib/streams.ts";
import type { BuildResult, WorkerMessage } from "#core/protocol/worker-messages.ts";
import { storePath } from "#test/support/derivations.ts";
import { type FakeServer, FakeServers } from "#test/support/fake-server.ts";
import { FakeWorker } from "#test/support/fake-worker.ts";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { Relay } from "#worker/federation/relay.ts";

export const ACME = "01890000-0000-7000-8000-00000000000a";
export const OTHER = "01890000-0000-7000-8000-00000000000b";
export const RELAY_ID = "7f1de7a4-3b5c-4d6e-8f90-a1b2c3d4e5f6";
export const PATH = storePath("/nix/store/00000000000000000000000000000000-thing");
export const DRV = storePath(`${PATH}.drv`);
export const INFO = { path: PATH, nar_hash: "0".repeat(64), nar_size: 3, references: [], deriver: null, ca: null };
export const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };
export const X86 = { architectures: ["x86_64-linux"], system_features: ["kvm"] };
export const ARM = { architectures: ["aarch64-linux"], system_features: [] };

type Capabilities = Extract<WorkerMessage, { type: "worker_capabilities" }>;

/** A relay between scripted ends, made anew for each test by `useRelay`. */
interface RelayBench {
  folder: TemporaryFolder;
  servers: FakeServers;
  relay: Relay;
  running: Promise<void>;
  /** Tokens by worker and organization, as the relay's operator has written them. */
  tokens: Map<string, { byOrganization: Map<string, string>; any: string | null }>;
}

export const bench: RelayBench = {} as RelayBench;

/** To be called once in a test file: each test has a relay that has just been started. */
export function useRelay(): void {
  beforeEach(async () => {
    bench.folder = await withTemporaryFolder();
    bench.servers = new FakeServers();
    bench.tokens = new Map();
    start();
  });
  afterEach(async () => {
    await bench.relay.abort();
    await bench.running;
    await bench.folder[Symbol.asyncDispose]();
  });
}

export function start({ workersMax = 16 } = {}): void {
  bench.relay = new Relay({
    workerId: RELAY_ID,
    able: { fetch: true, eval: true, build: true },
    dataDir: bench.folder.path,
    workersMax,
    connect: bench.servers.connect,
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: "of the relay" })),
    readTokens: async () => ({ workers: bench.tokens, problems: [] }),
    clock: systemClock,
    log: recordingLogger(),
  });
  bench.running = bench.relay.run();
}

export async function attached(session = 0, options: Parameters<FakeServer["register"]>[0] = {}): Promise<FakeServer> {
  const server = await bench.servers.session(session);
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
export async function behind({
  workerId = randomUUID(),
  organizations = [ACME, OTHER],
  groups = [{ ...X86, max_concurrent_builds: 2 }],
  attempts = [],
  free = 2,
  extra = {},
}: Behind = {}): Promise<FakeWorker> {
  const own = Object.fromEntries(organizations.map((id) => [id, `${workerId} for ${id}`]));
  bench.tokens.set(workerId, { byOrganization: new Map(Object.entries(own)), any: null });
  const worker = new FakeWorker((socket) => bench.relay.accept(socket), { workerId, tokens: own });
  await worker.authenticate();
  await worker.next("init_ack");
  const machine = { max_concurrent_evaluations: 0, cpu_count: 4, ram_total_mb: 4096 };
  worker.send({ type: "worker_capabilities", groups, ...machine, attempts, ...extra });
  await expect.poll(() => worker.count("attempts")).toBe(1);
  for (const group of groups.keys()) worker.send({ type: "request_job", kind: "build", group, free });
  return worker;
}

/** What the server was told last, and what it was asked for since. */
export function told(server: FakeServer): { capabilities: Capabilities; asked: Record<number, number> } {
  const index = server.received.findLastIndex(({ type }) => type === "worker_capabilities");
  const asked: Record<number, number> = {};
  for (const message of server.received.slice(index)) {
    if (message.type !== "request_job" || message.kind !== "build") continue;
    asked[message.group ?? 0] = (asked[message.group ?? 0] ?? 0) + message.free;
  }
  return { capabilities: server.received[index] as Capabilities, asked };
}

/** What the server has back, in the order in which it was told. */
export function handedBack(server: FakeServer) {
  return server.received.filter((message) => message.type === "assign_job_response" && !message.accepted);
}

export function attemptId(number: number): string {
  return `01890000-0000-7000-8000-${String(number).padStart(12, "0")}`;
}

export async function assign(server: FakeServer, number: number, group = 0, organization = ACME): Promise<string> {
  const attempt = attemptId(number);
  const stream = server.connection.openStream();
  const limits = { inputs: [], timeout_ms: 0, max_silent_ms: 0 };
  const job = { kind: "build", build: attempt, organization, drv_path: DRV, ...limits } as const;
  server.send({ type: "assign_job", attempt, group, job: { ...job, drv: { stream: stream.id, size: 3 } } });
  await stream.pipe(streamOf(utf8("drv"))).catch(() => {});
  return attempt;
}

/** Accepts a job as a worker does. Answers the derivation's bytes. */
export function accepting(worker: FakeWorker): Map<string, Promise<string>> {
  const derivations = new Map<string, Promise<string>>();
  worker.onMessage = (message) => {
    if (message.type !== "assign_job" || message.job.kind !== "build") return;
    const drv = worker.connection.acceptStream(message.job.drv.stream);
    derivations.set(message.attempt, collect(drv, 100).then(fromUtf8));
    worker.send({ type: "assign_job_response", attempt: message.attempt, accepted: true });
  };
  return derivations;
}

/** A worker behind the relay that has a job. */
export async function busyWorker(
  server: FakeServer,
): Promise<{ readonly worker: FakeWorker; readonly attempt: string }> {
  const worker = await behind();
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await expect.poll(() => server.count("assign_job_response")).toBe(1);
  return { worker, attempt };
}

/** The streams that come with messages of this type, as the server accepts them. */
export function streamsOf(server: FakeServer): ByteStream[] {
  const streams: ByteStream[] = [];
  server.onMessage = (message) => {
    if ("stream" in message) streams.push(server.connection.acceptStream(message.stream));
  };
  return streams;
}
