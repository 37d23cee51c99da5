import { uuidV4 } from "#core/lib/ids.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { Agent } from "#worker/agent.ts";
import type { AttemptLink } from "#worker/link.ts";
import { type ExecutorContext, simulateBuild, simulateEvaluation } from "./executors.ts";
import { FEATURE, OTHER_SYSTEM, SYSTEM } from "./flake.ts";
import type { Network } from "./network.ts";
import type { Random } from "./random.ts";
import { makeLogger } from "./server.ts";
import { SimulatedProcess, type Simulator } from "./simulator.ts";

export interface RunningExecutor {
  readonly workerId: string;
  /** Since when the attempt is known to have ended on the server. */
  endedSinceMs: number | null;
}

export interface WorkerSurroundings extends Omit<ExecutorContext, "process" | "store" | "machine"> {
  readonly simulator: Simulator;
  readonly network: Network;
  readonly running: Map<string, RunningExecutor>;
  readonly done: Map<string, () => boolean>;
  readonly dataDir: string;
}

/** A machine with a store, and on it the worker's process: the real agent with simulated executors. */
export class WorkerMachine {
  readonly id: string;
  readonly name: string;
  readonly buildPlaces: number;
  readonly token: string;
  readonly architectures: readonly string[];
  readonly features: readonly string[];
  readonly #surroundings: WorkerSurroundings;
  readonly #store = new Set<StorePath>();
  #process: SimulatedProcess | null = null;
  #agent: Agent | null = null;
  #stopping = false;

  /** `able`: it can run whatever there is; others run some of it. */
  constructor(surroundings: WorkerSurroundings, random: Random, { number, able }: { number: number; able: boolean }) {
    this.#surroundings = surroundings;
    this.id = uuidV4(random.bytes);
    this.name = `worker ${number}`;
    this.token = `token ${number}`;
    this.buildPlaces = random.between(1, 3);
    const systems = [SYSTEM, OTHER_SYSTEM];
    this.architectures = able ? systems : random.pick([systems, [SYSTEM], [OTHER_SYSTEM]]);
    this.features = able || random.chance(0.5) ? [FEATURE] : [];
  }

  get process(): SimulatedProcess | null {
    return this.#process?.alive ? this.#process : null;
  }

  /** It takes no more work. */
  get stopping(): boolean {
    return this.#stopping;
  }

  start(peer: string): void {
    this.#stopping = false;
    const { simulator, network, running, done, random } = this.#surroundings;
    const process = new SimulatedProcess(simulator, this.name);
    process.note("starts");
    this.#process = process;
    const context: ExecutorContext = { ...this.#surroundings, process, store: this.#store, machine: this };
    const track = async <T>({ attemptId, signal }: AttemptLink, work: Promise<T>): Promise<T> => {
      own.add(attemptId);
      running.set(attemptId, { workerId: this.id, endedSinceMs: null });
      try {
        const result = await work;
        done.set(attemptId, () => process.alive && !signal.aborted);
        return result;
      } finally {
        running.delete(attemptId);
      }
    };
    const own = new Set<string>();
    const prepared = Promise.withResolvers<void>();
    process.onDeath(() => {
      for (const attemptId of own) running.delete(attemptId);
    });
    const agent = new Agent({
      workerId: this.id,
      capabilities: { fetch: true, eval: true, build: true, sign: false, federate: false },
      facts: {
        architectures: this.architectures,
        systemFeatures: this.features,
        maxConcurrentBuilds: this.buildPlaces,
        maxConcurrentEvaluations: 1,
        cpuCount: 2,
        ramTotalMb: 4096,
      },
      dataDir: this.#surroundings.dataDir,
      connect: (signal) => {
        prepared.resolve();
        return network.connect(process, this.id, signal);
      },
      tokensFor: async (peers) => peers.filter((id) => id === peer).map((id) => ({ peer: id, token: this.token })),
      build: (job, aterm, link) => {
        return track(link, simulateBuild(context, job, aterm, link));
      },
      evaluate: (job, link) => {
        return track(link, simulateEvaluation(context, job, link));
      },
      clock: process.clock,
      random: random.fork().bytes,
      log: makeLogger(process),
    });
    this.#agent = agent;
    // The worker looks at its folder first, which takes real time.
    void simulator.outside(() => prepared.promise);
    void agent.run().then(() => process.die("has ended"));
  }

  /** Asked to stop, as by SIGTERM; `now`: asked twice. */
  stop(now: boolean): void {
    this.process?.note(now ? "is to stop now" : "is to stop");
    this.#stopping = true;
    void (now ? this.#agent?.abort() : this.#agent?.drain());
  }

  /** `silently`: the machine loses its power, and no peer is told. */
  kill(silently: boolean): void {
    const { network } = this.#surroundings;
    if (silently) for (const link of network.links) if (link.workerId === this.id) link.silence("worker");
    this.process?.die(silently ? "loses its power" : "is killed");
  }
}
