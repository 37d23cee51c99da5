import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { MINUTE } from "#core/lib/clock.ts";
import type { SecretKey } from "#core/nix/signature.ts";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { Checker } from "./checks.ts";
import { SimulatedDatabase } from "./database.ts";
import { Faults } from "./faults.ts";
import { makeUniverse, PROBE_MS, type SimulatedFlake } from "./flake.ts";
import { Network } from "./network.ts";
import { checkOutcome, type OutcomeFacts } from "./outcome.ts";
import { Random } from "./random.ts";
import { type ServerMachine, SimulatedServer } from "./server.ts";
import { Simulator } from "./simulator.ts";
import { type RunningExecutor, WorkerMachine } from "./worker.ts";
import { ENDED, People, populate } from "./world.ts";

/** After the last fault everything has ended within this. */
const SETTLE_MS_MAX: number = 20 * MINUTE;
/** For the last evaluation, whose builds all run at once: an evaluation, a build, and what lies between. */
const PROBE_MS_MAX: number = PROBE_MS + 60_000;

export interface SimulationOptions {
  readonly seed: number;
  readonly address: DatabaseAddress;
  readonly secretKey: SecretKey;
}

export interface SimulationResult {
  readonly seed: number;
  readonly error: Error | null;
  readonly trace: readonly string[];
  readonly simulatedMs: number;
}

/** One run of a whole installation: what happens follows from the seed alone. The database is migrated and empty. */
export async function simulate({ seed, address, secretKey }: SimulationOptions): Promise<SimulationResult> {
  const simulator = new Simulator();
  const random = new Random(seed);
  const database = await SimulatedDatabase.connect(simulator, address, random.fork());
  const dataDir = await mkdtemp(join(tmpdir(), "gradient-sim-"));
  let error: Error | null = null;
  try {
    const simulation = await Simulation.make({ simulator, random, database, secretKey, dataDir });
    await simulation.run();
  } catch (failure) {
    error = failure instanceof Error ? failure : new Error(String(failure));
  } finally {
    await database.close();
    await rm(dataDir, { recursive: true, force: true });
  }
  return { seed, error, trace: simulator.trace, simulatedMs: simulator.elapsedMs };
}

interface Parts {
  readonly simulator: Simulator;
  readonly random: Random;
  readonly database: SimulatedDatabase;
  readonly secretKey: SecretKey;
  readonly dataDir: string;
}

type StandingFacts = Omit<OutcomeFacts, "flakes" | "aborted" | "acknowledged">;

class Simulation {
  readonly #parts: Parts;
  readonly #observer: Kysely<Database>;
  readonly #workers: readonly WorkerMachine[];
  readonly #machine: ServerMachine;
  readonly #checker: Checker;
  readonly #people: People;
  readonly #faults: Faults;
  readonly #facts: StandingFacts;
  readonly #organizationId: string;
  #server: SimulatedServer | null = null;
  #checkedChanges = -1;
  #open = 0;
  #connected = 0;
  #phase: "faults" | "settling" | "probing" | "over" = "faults";

  private constructor(
    parts: Parts,
    given: {
      readonly observer: Kysely<Database>;
      readonly workers: readonly WorkerMachine[];
      readonly machine: ServerMachine;
      readonly checker: Checker;
      readonly people: (server: () => SimulatedServer | null) => People;
      readonly facts: StandingFacts;
      readonly organizationId: string;
    },
  ) {
    this.#parts = parts;
    this.#observer = given.observer;
    this.#workers = given.workers;
    this.#machine = given.machine;
    this.#checker = given.checker;
    this.#facts = given.facts;
    this.#organizationId = given.organizationId;
    const server = () => (this.#server?.process.alive ? this.#server : null);
    this.#people = given.people(server);
    const { simulator, database, random } = parts;
    const { network, wakeUps } = given.machine;
    const targets = { simulator, database, network, wakeUps, workers: given.workers, server, people: this.#people };
    this.#faults = new Faults(targets, random.fork());
  }

  static async make(parts: Parts): Promise<Simulation> {
    const { simulator, random, database, secretKey, dataDir } = parts;
    const running = new Map<string, RunningExecutor>();
    const done = new Map<string, () => boolean>();
    const checker = new Checker(simulator, running, done);
    const network = new Network(simulator, random.fork(), checker);
    const flakes = new Map<string, SimulatedFlake>();
    const logs = new Map<string, string>();
    const blobs = new Map<string, Uint8Array>();
    const universe = await makeUniverse(random, random.between(5, 60), 12);
    const surroundings = {
      simulator,
      network,
      running,
      done,
      universe,
      random: random.fork(),
      tries: new Map(),
      logs,
      dataDir,
      flakeOf: (commit: string) => flakes.get(commit) as SimulatedFlake,
      violated: (what: string) => simulator.fail(new Error(what)),
    };
    const count = random.between(1, 4);
    const workers = Array.from({ length: count }, (_, i) => new WorkerMachine(surroundings, i + 1, random));
    const observer = database.open(null);
    const projects = random.between(1, 3);
    const { organizationId, projectIds } = await populate(observer, { random, simulator, workers, projects });
    const machine = { simulator, database, network, random: random.fork(), secretKey, blobs, wakeUps: { loss: 0 } };
    const people = (server: () => SimulatedServer | null) =>
      new People({
        random: random.fork(),
        universe,
        organizationId,
        projectIds,
        workers,
        simulator,
        flakes,
        server: () => server()?.deps ?? null,
      });
    const facts = { universe, blobs, logs };
    return new Simulation(parts, { observer, workers, machine, checker, people, facts, organizationId });
  }

  /** Throws with what went wrong. */
  async run(): Promise<void> {
    const { simulator, random } = this.#parts;
    this.#keepServer(0);
    for (const worker of this.#workers) this.#keepWorker(worker, random.below(3_000));
    const count = random.between(1, 3);
    for (let i = 0; i < count; i++) simulator.schedule(random.between(500, 20_000), () => this.#people.evaluate());

    const faultsEndMs = random.between(40_000, 150_000);
    simulator.schedule(faultsEndMs, () => {
      this.#phase = "settling";
      this.#faults.end();
      simulator.note("faults end");
    });
    await this.#until(faultsEndMs + SETTLE_MS_MAX, () => this.#phase === "settling" && this.#isQuiet());
    await this.#checkOutcome();
    await this.#probe();
  }

  async #until(limitMs: number, done: () => boolean): Promise<void> {
    const { simulator } = this.#parts;
    const afterEach = async () => {
      await this.#afterStep();
      if (simulator.elapsedMs <= limitMs) return;
      const links = this.#machine.network.describe();
      const people = `${this.#connected} workers are connected (${links})`;
      throw new Error(`after ${limitMs} ms ${this.#open} evaluations have not ended; ${people}`);
    };
    await simulator.run(afterEach, done);
  }

  async #afterStep(): Promise<void> {
    const { database } = this.#parts;
    if (database.taken) throw new Error("a transaction waits for something that is not the database");
    if (this.#phase === "faults") this.#faults.step();
    this.#checker.checkRunning();
    if (database.changes === this.#checkedChanges && !this.#checker.hasPromises) return;
    this.#checkedChanges = database.changes;
    await this.#checker.check(this.#observer);
    const { rows } = await sql<{ open: number; connected: number }>`
      select (select count(*)::int from evaluation where status not in (${sql.join([...ENDED])})) as open,
        (select count(*)::int from worker_connection where disconnected_at is null) as connected`.execute(
      this.#observer,
    );
    this.#open = rows[0]?.open ?? 0;
    this.#connected = rows[0]?.connected ?? 0;
  }

  /** Everybody is there, and nothing is left to do. */
  #isQuiet(): boolean {
    const count = this.#workers.length;
    const areUp = this.#server?.process.alive === true && this.#workers.every(({ process }) => process !== null);
    const areJoined = this.#machine.network.soundLinks === count && this.#server?.sessions === count;
    return this.#open === 0 && areUp && areJoined && this.#connected === count;
  }

  async #checkOutcome(): Promise<void> {
    const { flakes, aborted } = this.#people;
    const { acknowledged } = this.#checker;
    await checkOutcome(this.#observer, { ...this.#facts, flakes, aborted, acknowledged });
  }

  /** As many builds as all workers have places must all run at once. */
  async #probe(): Promise<void> {
    const { simulator } = this.#parts;
    this.#phase = "probing";
    const places = this.#workers.reduce((sum, { buildPlaces }) => sum + buildPlaces, 0);
    const probes = this.#facts.universe.probes.slice(0, places);
    const attributes = probes.map(({ name, drvPath }) => ({ name, drvPath }));
    simulator.note(`probing ${places} places`);
    this.#people.evaluate({ attributes, broken: false, warnings: 0 });
    const from = simulator.elapsedMs;
    let begun = false;
    await this.#until(from + PROBE_MS_MAX, () => {
      begun ||= this.#open > 0;
      return begun && this.#open === 0;
    });
    this.#phase = "over";
    await this.#checkOutcome();
  }

  /** As the system's service manager does: started again whenever it has ended. */
  #keepServer(delayMs: number): void {
    this.#parts.simulator.schedule(delayMs, () => {
      const server = new SimulatedServer(this.#machine);
      this.#server = server;
      this.#checker.serverStartedMs = this.#parts.simulator.elapsedMs;
      server.process.onDeath(() => this.#keepServer(this.#restartMs()));
      void server.start();
    });
  }

  #keepWorker(worker: WorkerMachine, delayMs: number): void {
    this.#parts.simulator.schedule(delayMs, () => {
      worker.start(this.#organizationId);
      worker.process?.onDeath(() => this.#keepWorker(worker, this.#restartMs()));
    });
  }

  #restartMs(): number {
    const { random } = this.#parts;
    return this.#phase === "faults" ? random.pick([50, 500, 5_000, 20_000, 90_000]) : 500;
  }
}
