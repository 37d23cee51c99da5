import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#core/lib/clock.ts";
import { streamOf } from "#core/lib/streams.ts";
import { parseDerivation } from "#core/nix/derivation.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { Agent } from "#worker/agent.ts";
import type { AttemptLink } from "#worker/link.ts";
import { Channel } from "./channel.ts";
import { type Graph, type GraphNode, makeGraph, SYSTEM } from "./graph.ts";
import { Watch } from "./watch.ts";

/** What `scale.ts` gives the workers' process as JSON. */
export interface WorkersOrder {
  readonly socketPath: string;
  readonly folder: string;
  readonly organizationId: string;
  readonly token: string;
  readonly evaluatorId: string;
  readonly builderIds: readonly string[];
  readonly slots: number;
  readonly nodes: number;
  /** Whether builds upload what they made; otherwise it is in the cache before they begin. */
  readonly uploads: boolean;
  /** How long a build takes on average: each between half and one and a half of it. */
  readonly buildMs: number;
}

/** Nodes of one report, as the worker sends them. */
const BATCH_NODES = 500;

const order = JSON.parse(process.argv[2] as string) as WorkersOrder;
const log: Logger = {
  debug: () => {},
  info: () => {},
  warn: (message, fields) => console.error(message, fields),
  error: (message, fields) => console.error(message, fields),
  with: () => log,
};

const memory = await remember();
const channel = new Channel(connect(order.socketPath), () => {
  throw new Error("the server opens no sockets");
});
const watch = new Watch();

interface Memory {
  readonly edges: number;
  /** What is to be reported. */
  graph: Graph | null;
  /** What is to be uploaded. */
  readonly byPath: ReadonlyMap<string, GraphNode>;
}

/** In an object that a suspended module cannot keep alive when its content is dropped. */
async function remember(): Promise<Memory> {
  const graph = await makeGraph(order.nodes);
  const byPath = new Map<string, GraphNode>(order.uploads ? graph.nodes.map((node) => [node.drvPath, node]) : []);
  return { edges: graph.edges, graph, byPath };
}

function startAgent(workerId: string, kind: "evaluator" | "builder", open: () => Socket): Agent {
  const builds = kind === "builder";
  const agent = new Agent({
    workerId,
    capabilities: { fetch: !builds, eval: !builds, build: builds, sign: false, federate: false },
    facts: {
      architectures: [SYSTEM],
      systemFeatures: [],
      maxConcurrentBuilds: builds ? order.slots : 0,
      maxConcurrentEvaluations: builds ? 0 : 1,
      cpuCount: 4,
      ramTotalMb: 4096,
    },
    dataDir: join(order.folder, workerId),
    connect: async () => open(),
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: order.token })),
    build: async (job, aterm, link) => {
      link.phase("building");
      if (order.buildMs > 0) await sleep(order.buildMs * (0.5 + Math.random()));
      link.builderEnded();
      for (const output of memory.byPath.get(job.drv_path)?.outputs ?? []) await upload(output, link);
      const { outputs } = parseDerivation(aterm);
      const made = Array.from(outputs, ([name, { path }]) => ({ name, path: path as StorePath }));
      return { kind: "build", status: "built", outputs: made, failure: null, build_ms: 1 };
    },
    evaluate: async (_job, link) => {
      if (memory.graph) await report(link, memory.graph);
      return { kind: "evaluation", status: "completed", failure: null };
    },
    clock: systemClock,
    log,
  });
  void agent.run();
  return agent;
}

async function upload({ info, zstd }: GraphNode["outputs"][number], link: AttemptLink): Promise<void> {
  await link.pushNar({ target: "output", info, compression: "zstd", open: () => streamOf(zstd) });
}

async function report(link: AttemptLink, graph: Graph): Promise<void> {
  const points = new Map(graph.attributes.map((point) => [point.drvPath, point]));
  for (let at = 0; at < graph.nodes.length; at += BATCH_NODES) {
    const nodes = graph.nodes.slice(at, at + BATCH_NODES);
    await link.sendBatch({
      nodes: nodes.map(({ drvPath, aterm }) => ({ drvPath, aterm, pruned: false })),
      entryPoints: nodes.flatMap(({ drvPath }) => points.get(drvPath) ?? []),
    });
  }
}

/** Milliseconds from the evaluator's connection to the acknowledged end of its evaluation. */
async function ingest(): Promise<number> {
  const startedAt = performance.now();
  const acknowledged = watch.acknowledged(1);
  const agent = startAgent(order.evaluatorId, "evaluator", () => watch.over(channel.open(), -1));
  await acknowledged;
  const ms = performance.now() - startedAt;
  await agent.drain();
  // Workers know no graph. Looking through one of 100,000 for garbage, every ten seconds, took V8 0.4 s of both
  // processors.
  memory.graph = null;
  return ms;
}

async function drain(): Promise<number> {
  const acknowledged = watch.acknowledged(order.nodes);
  const startedAt = performance.now();
  const agents = order.builderIds.map((id, i) => startAgent(id, "builder", () => watch.over(channel.open(), i)));
  await acknowledged;
  const ms = performance.now() - Math.max(startedAt, watch.firstAssignedAt);
  await Promise.all(agents.map((agent) => agent.drain()));
  return ms;
}

process.on("message", (command: "ingest" | "drain" | "events") => {
  const answer = async () => {
    if (command === "ingest") return await ingest();
    if (command === "drain") return await drain();
    return watch.events;
  };
  answer().then(
    (value) => process.send?.(value),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.on("SIGTERM", () => process.exit(0));
process.send?.({ edges: memory.edges });
