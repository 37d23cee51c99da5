import type { SimulatedDatabase } from "./database.ts";
import type { Link, Network } from "./network.ts";
import type { Random } from "./random.ts";
import type { SimulatedServer } from "./server.ts";
import type { Simulator } from "./simulator.ts";
import type { WakeUps } from "./wake-ups.ts";
import type { WorkerMachine } from "./worker.ts";

export interface FaultTargets {
  readonly simulator: Simulator;
  readonly database: SimulatedDatabase;
  readonly network: Network;
  readonly wakeUps: WakeUps;
  readonly workers: readonly WorkerMachine[];
  /** Those that run. */
  readonly servers: () => readonly SimulatedServer[];
  /** What people do, as far as it disturbs. */
  readonly people: {
    readonly evaluate: () => void;
    readonly abort: () => void;
    readonly restart: () => void;
    readonly abortBuild: () => void;
    readonly restartBuild: () => void;
    readonly prioritize: () => void;
    readonly changeRegistration: () => void;
  };
  readonly losses: { readonly cause: () => void };
  readonly forgeries: { readonly cause: (link: Link) => void };
}

const FAULTS: Readonly<Record<string, number>> = {
  "kill the server": 6,
  "stop the server": 2,
  "kill a worker": 6,
  "a worker loses its power": 3,
  "stop a worker": 3,
  "stop a worker now": 2,
  "reset a connection": 5,
  "lose a session twice": 3,
  "silence a side": 5,
  "silence both sides": 3,
  "hold what is sent": 4,
  "cut a worker off": 4,
  "the database is away": 2,
  "the database loses connections": 3,
  "the database is slow": 4,
  "the network is slow": 3,
  "wake-ups get lost": 3,
  evaluate: 8,
  abort: 4,
  restart: 4,
  "abort a build": 3,
  "restart a build": 3,
  prioritize: 1,
  "lose an output": 5,
  "forge a message": 5,
  "change a registration": 1,
};

/** What goes wrong in one run: some kinds often and others never, each at a random step. */
export class Faults {
  readonly #targets: FaultTargets;
  readonly #random: Random;
  readonly #kinds: readonly (readonly [number, string])[];
  readonly #pauseMs: number;
  readonly #usualLatencyMs: number;
  #nextMs: number;
  /** What is usual while things go wrong may be slower than what comes after. */
  #areOver = false;
  /** Steps until the fault that is due. */
  #stepsLeft = -1;

  constructor(targets: FaultTargets, random: Random) {
    this.#targets = targets;
    this.#random = random;
    this.#kinds = Object.entries(FAULTS).map(
      ([kind, weight]) => [weight * random.pick([0, 0, 1, 1, 3]), kind] as const,
    );
    this.#pauseMs = random.pick([1_500, 3_000, 6_000, 12_000, 30_000]);
    this.#nextMs = random.below(this.#pauseMs);
    this.#usualLatencyMs = random.pick([4, 30, 200, 1_500]);
    targets.database.weather.latencyMs = this.#usualLatencyMs;
  }

  /** To be called after each step. */
  step(): void {
    const { simulator } = this.#targets;
    if (this.#stepsLeft < 0) {
      if (simulator.elapsedMs < this.#nextMs) return;
      // Not when time has come but at some step after that: most steps are close together.
      this.#stepsLeft = this.#random.below(40);
    }
    if (this.#stepsLeft-- > 0) return;
    this.#nextMs = simulator.elapsedMs + this.#random.below(2 * this.#pauseMs);
    if (this.#kinds.every(([weight]) => weight === 0)) return;
    const kind = this.#random.weighted(this.#kinds);
    simulator.note(`FAULT ${kind}`);
    this.#cause(kind);
  }

  #cause(kind: string): void {
    const { servers, workers, network, people } = this.#targets;
    const random = this.#random;
    const worker = random.pick(workers);
    const server = random.pick(servers());
    const links = [...network.links];
    const link = links.length > 0 ? random.pick(links) : null;
    switch (kind) {
      case "kill the server":
        return server?.process.die("is killed");
      case "stop the server":
        return void server?.stop();
      case "kill a worker":
        return worker.kill(false);
      case "a worker loses its power":
        return worker.kill(true);
      case "stop a worker":
        return worker.stop(false);
      case "stop a worker now":
        return worker.stop(true);
      case "reset a connection":
        return link?.reset();
      case "lose a session twice":
        return this.#resetRegistrations(link);
      case "silence a side":
        return link?.silence(random.pick(["worker", "server"] as const));
      case "silence both sides":
        link?.silence("worker");
        return link?.silence("server");
      case "hold what is sent":
        return link?.hold(random.pick(["worker", "server"] as const), random.between(500, 80_000));
      case "cut a worker off":
        return network.cut(worker.id, random.pick([2_000, 30_000, 150_000, 300_000]), random.chance(0.5));
      case "evaluate":
        return people.evaluate();
      case "abort":
        return people.abort();
      case "restart":
        return people.restart();
      case "abort a build":
        return people.abortBuild();
      case "restart a build":
        return people.restartBuild();
      case "prioritize":
        return people.prioritize();
      case "lose an output":
        return this.#targets.losses.cause();
      case "forge a message":
        return link ? this.#targets.forgeries.cause(link) : undefined;
      case "change a registration":
        return people.changeRegistration();
      default:
        return this.#weather(kind);
    }
  }

  /** The session that follows comes while the database is still asked for the one before. */
  #resetRegistrations(link: Link | null): void {
    const { database, network } = this.#targets;
    network.atRegistration = (begun) => {
      begun.reset();
      this.#for(4_000, database.weather, "latencyMs", 3_000, this.#usualLatencyMs);
    };
    link?.reset();
  }

  #weather(kind: string): void {
    const { database, network, wakeUps } = this.#targets;
    const random = this.#random;
    switch (kind) {
      case "the database is away":
        return this.#for(random.between(200, 20_000), database.weather, "down", true, false);
      case "the database loses connections":
        this.#for(30_000, database.weather, "conflict", 0.1, 0);
        return this.#for(random.between(1_000, 30_000), database.weather, "loss", random.pick([0.02, 0.1, 0.3]), 0);
      case "the database is slow":
        return this.#for(
          random.between(1_000, 30_000),
          database.weather,
          "latencyMs",
          random.pick([100, 1_000, 5_000]),
          this.#usualLatencyMs,
        );
      case "the network is slow":
        return this.#for(random.between(1_000, 30_000), network.weather, "latencyMs", random.pick([500, 3_000]), 40);
      case "wake-ups get lost":
        return this.#for(random.between(1_000, 40_000), wakeUps, "loss", random.pick([0.3, 1]), 0);
      default:
        throw new Error(`unknown fault ${kind}`);
    }
  }

  #for<T, K extends keyof T>(ms: number, weather: T, key: K, value: T[K], usual: T[K]): void {
    weather[key] = value;
    this.#targets.simulator.schedule(ms, () => {
      if (!this.#areOver) weather[key] = usual;
    });
  }

  /** From here on nothing goes wrong any more. */
  end(): void {
    const { database, network, wakeUps } = this.#targets;
    this.#areOver = true;
    Object.assign(database.weather, { latencyMs: 4, down: false, loss: 0, conflict: 0 });
    network.heal();
    wakeUps.loss = 0;
  }
}
