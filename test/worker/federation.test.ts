import { createHash, randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { concatBytes, fromUtf8, toHex, utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import type { BuildJob, EvaluationJob } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { BuildResult, Capabilities, EvaluationResult } from "#core/protocol/worker-messages.ts";
import { Agent } from "#worker/agent.ts";
import { Relay } from "#worker/federation/relay.ts";
import type { AttemptLink } from "#worker/link.ts";
import { fileNar } from "../cache/support.ts";
import { type HubBench, withHub } from "../support/hub.ts";
import { recordingLogger } from "../support/recording-logger.ts";
import { type TemporaryFolder, withTemporaryFolder } from "../support/temporary-folder.ts";

const EVALUATED: EvaluationResult = { kind: "evaluation", status: "completed", failure: null };
const NONE = { fetch: false, eval: false, build: false, sign: false, federate: false };
const BUILD_MS = 300;

let bench: HubBench;
let folder: TemporaryFolder;
let relays: { readonly relay: Relay; readonly running: Promise<void> }[];
let agents: { readonly agent: Agent; readonly running: Promise<void> }[];
let tokens: Map<string, { byOrganization: Map<string, string>; any: string | null }>;
let relayId: string;
/** The relay's own ends. */
let toServer: Socket[];
/** Builds that agents began and ended, in order: `name begins`, `name ends`. */
let events: string[];

beforeEach(async () => {
  bench = await withHub();
  folder = await withTemporaryFolder();
  [relays, agents, tokens, toServer, events] = [[], [], new Map(), [], []];
  relayId = randomUUID();
  await bench.addRegistration(relayId);
});

afterEach(async () => {
  for (const { agent } of agents) await agent.abort();
  for (const { relay } of relays) await relay.abort();
  await Promise.all([...agents, ...relays].map(({ running }) => running));
  await bench[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

function startRelay(): Relay {
  const relay = new Relay({
    workerId: relayId,
    able: { fetch: true, eval: true, build: true },
    dataDir: folder.path,
    workersMax: 16,
    connect: async () => {
      const socket = connected((end) => bench.hub.accept(end));
      toServer.push(socket);
      return socket;
    },
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: `token of ${relayId}` })),
    readTokens: async () => ({ workers: tokens, problems: [] }),
    clock: systemClock,
    log: recordingLogger(),
  });
  relays.push({ relay, running: relay.run() });
  return relay;
}

function connected(accept: (socket: Socket) => void): Socket {
  const [mine, theirs] = socketPair(systemClock);
  accept(theirs);
  return mine;
}

interface AgentBehind {
  readonly capabilities: Partial<Capabilities>;
  readonly features?: readonly string[];
  readonly evaluate?: (job: EvaluationJob) => EvaluationResult;
}

/** A worker behind the newest relay. Its builds take a while, log two lines and upload an output. */
async function startAgent(name: string, { capabilities, features = [], evaluate }: AgentBehind): Promise<Agent> {
  const workerId = randomUUID();
  tokens.set(workerId, { byOrganization: new Map(), any: "token" });
  const dataDir = join(folder.path, name);
  await mkdir(dataDir);
  const agent = new Agent({
    workerId,
    capabilities: { ...NONE, ...capabilities },
    facts: {
      architectures: ["x86_64-linux"],
      systemFeatures: features,
      maxConcurrentBuilds: 2,
      maxConcurrentEvaluations: 1,
      cpuCount: 4,
      ramTotalMb: 4096,
    },
    dataDir,
    connect: async () => connected((socket) => (relays.at(-1) as (typeof relays)[number]).relay.accept(socket)),
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: "token" })),
    build: (job, aterm, link) => build(name, job, { aterm, link }),
    evaluate: async (job) => evaluate?.(job) ?? EVALUATED,
    clock: systemClock,
    log: recordingLogger(),
  });
  agents.push({ agent, running: agent.run() });
  return agent;
}

async function build(
  name: string,
  job: BuildJob,
  { aterm, link }: { readonly aterm: Uint8Array; readonly link: AttemptLink },
): Promise<BuildResult> {
  events.push(`${name} begins`);
  link.phase("building");
  link.log(utf8("begun\n"));
  await sleep(BUILD_MS);
  link.signal.throwIfAborted();
  link.log(utf8("ended\n"));
  const [, output] = /"out","([^"]+)"/.exec(fromUtf8(aterm)) ?? [];
  const nar = await fileNar(utf8(job.build));
  const nar_hash = toHex(createHash("sha256").update(nar).digest());
  const info = { path: output as StorePath, nar_hash, nar_size: nar.length, references: [], deriver: null, ca: null };
  const result: BuildResult = {
    ...{ kind: "build", status: "built", failure: null, build_ms: BUILD_MS },
    outputs: [{ name: "out", path: output as StorePath }],
  };
  await link.deliver([{ target: "output", info, compression: "none", open: () => streamOf(nar) }], result);
  events.push(`${name} ends`);
  return result;
}

async function statusOf(buildId: string): Promise<number | undefined> {
  return (await bench.db.selectFrom("build").select("status").where("id", "=", buildId).executeTakeFirst())?.status;
}

async function logOf(buildId: string): Promise<string> {
  const chunks = await bench.db
    .selectFrom("attempt_log_chunk")
    .innerJoin("attempt", "attempt.id", "attempt_log_chunk.attempt_id")
    .select("attempt_log_chunk.data")
    .where("attempt.build_id", "=", buildId)
    .orderBy("byte_start")
    .execute();
  return fromUtf8(concatBytes(chunks.map(({ data }) => data)));
}

async function countAttempts(buildId: string): Promise<number> {
  return (await bench.db.selectFrom("attempt").select("id").where("build_id", "=", buildId).execute()).length;
}

const DONE = { timeout: 30_000, interval: 20 };

test("builds go through the relay with logs and outputs, each to a worker that has what it needs", async () => {
  const [common, special] = [await bench.addBuild("common"), await bench.addBuild("special")];
  await bench.db
    .updateTable("build")
    .set({ required_features: ["kvm"] })
    .where("id", "=", special.id)
    .execute();
  startRelay();
  await startAgent("plain", { capabilities: { build: true } });
  await startAgent("special", { capabilities: { build: true }, features: ["kvm"] });

  await expect
    .poll(() => Promise.all([common, special].map(({ id }) => statusOf(id))), DONE)
    .toEqual([BuildStatus.Completed, BuildStatus.Completed]);
  expect(await Promise.all([common, special].map(({ id }) => logOf(id)))).toEqual(["begun\nended\n", "begun\nended\n"]);
  // The worker hears of it a moment after it is recorded.
  await expect.poll(() => events).toContain("special ends");
  expect(events.filter((event) => event.endsWith("begins"))).toHaveLength(2);
});

test("a session with the server that is lost in mid-build costs no build, and no line of its log", async () => {
  startRelay();
  await startAgent("one", { capabilities: { build: true } });
  const { id } = await bench.addBuild("thing");
  await expect.poll(() => logOf(id), DONE).toBe("begun\n");
  toServer.at(-1)?.close(1006, "lost");
  expect(events).toEqual(["one begins"]);
  await expect.poll(() => statusOf(id), DONE).toBe(BuildStatus.Completed);
  expect([await logOf(id), await countAttempts(id)]).toEqual(["begun\nended\n", 1]);
});

test("a fetch and an evaluation go to the worker of their kind, though no worker does both", async () => {
  startRelay();
  const did: string[] = [];
  const source = { reference: "path:/nix/store/x", wrapped: false, paths: [] };
  await startAgent("fetcher", {
    capabilities: { fetch: true },
    evaluate: ({ part }) => {
      did.push(`fetcher ${part}`);
      return { ...EVALUATED, source };
    },
  });
  await startAgent("evaluator", {
    capabilities: { eval: true },
    evaluate: ({ part }) => {
      did.push(`evaluator ${part}`);
      return EVALUATED;
    },
  });
  await bench.addEvaluation();

  await expect.poll(() => did, DONE).toEqual(["fetcher fetch", "evaluator eval"]);
});
