import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { MINUTE } from "#core/lib/clock.ts";
import type { SecretKey } from "#core/nix/signature.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { HubDeps } from "#runtime/node/hub/deps.ts";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { Checker } from "./checks.ts";
import { SimulatedDatabase } from "./database.ts";
import { Faults } from "./faults.ts";
import { makeUniverse, PROBE_MS, type SimulatedFlake } from "./flake.ts";
import { Forgeries } from "./forgeries.ts";
import { Losses } from "./losses.ts";
import { type Link, Network } from "./network.ts";
import { checkOutcome, type OutcomeFacts } from "./outcome.ts";
import { People } from "./people.ts";
import { Random } from "./random.ts";
import { type ServerMachine, SimulatedServer } from "./server.ts";
import { Simulator } from "./simulator.ts";
import { WakeUps } from "./wake-ups.ts";
import { type RunningExecutor, WorkerMachine } from "./worker.ts";
import { populate, type SimulatedOrganization } from "./world.ts";

/** After the last fault everything has ended within this. */
const SETTLE_MS_MAX: number = 20 * MINUTE;
/** For the last evaluation, whose builds all run at once: an evaluation, a build, and what lies between. */
const PROBE_MS_MAX: number = PROBE_MS + 60_000;

/** As many as two organizations' workers have places. */
const PROBES = 24;

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

type StandingFacts = Omit<OutcomeFacts, "aborted" | "abortedBuilds" | "acknowledged">;

interface Given {
  readonly observer: Kysely<Database>;
  readonly organizations: readonly SimulatedOrganization[];
  readonly machines: readonly ServerMachine[];
  readonly checker: Checker;
  readonly facts: StandingFacts;
  readonly flakes: Map<string, SimulatedFlake>;
  readonly losses: Losses;
  readonly forgeries: Forgeries;
  /** By number. */
  readonly servers: Map<number, SimulatedServer>;
}

function alive(servers: ReadonlyMap<number, SimulatedServer>): SimulatedServer[] {
  return [...servers.values()].filter(({ process }) => process.alive);
}

function someDeps(servers: ReadonlyMap<number, SimulatedServer>, random: Random): HubDeps | null {
  return random.pick(alive(servers))?.deps ?? null;
}

class Simulation {
  readonly #parts: Parts;
  readonly #given: Given;
  readonly #workers: readonly WorkerMachine[];
  readonly #network: Network;
  readonly #people: People;
  readonly #faults: Faults;
  #checkedChanges = -1;
  #open = 0;
  #connected = 0;
  #phase: "faults" | "settling" | "probing" | "over" = "faults";

  private constructor(parts: Parts, given: Given) {
    this.#parts = parts;
    this.#given = given;
    this.#workers = given.organizations.flatMap(({ workers }) => workers);
    const { network, wakeUps } = given.machines[0] as ServerMachine;
    this.#network = network;
    const { simulator, database, random } = parts;
    const { organizations, flakes, servers, losses, forgeries } = given;
    const { universe } = given.facts;
    const people = random.fork();
    const deps = () => someDeps(servers, people);
    this.#people = new People({ random: people, universe, organizations, simulator, flakes, deps });
    const targets = { simulator, database, network, wakeUps, workers: this.#workers, people: this.#people };
    this.#faults = new Faults({ ...targets, losses, forgeries, servers: () => alive(servers) }, random.fork());
  }

  static async make(parts: Parts): Promise<Simulation> {
    const { simulator, random, database, secretKey, dataDir } = parts;
    const running = new Map<string, RunningExecutor>();
    const done = new Map<string, () => boolean>();
    const forgeries = new Forgeries(random.fork(), simulator, running);
    const servers = new Map<number, SimulatedServer>();
    const blobs = new Map<string, Uint8Array>();
    const lossRandom = random.fork();
    const losses = new Losses({ random: lossRandom, simulator, blobs, deps: () => someDeps(servers, lossRandom) });
    const heard = (link: Link, text: string) => forgeries.heard(link, text);
    const checker = new Checker(simulator, running, done, { heard, lost: losses.paths });
    const network = new Network(simulator, random.fork(), checker);
    const wakeUps = new WakeUps(random.fork());
    const flakes = new Map<string, SimulatedFlake>();
    const logs = new Map<string, string>();
    const mixed = random.chance(0.5);
    const universe = await makeUniverse(random, { size: random.between(5, 60), probeCount: PROBES, mixed });
    const surroundings = {
      simulator,
      network,
      running,
      done,
      universe,
      random: random.fork(),
      tries: new Map(),
      lies: new Set<StorePath>(),
      isLost: (path: StorePath) => losses.includes(path),
      logs,
      dataDir,
      flakeOf: (commit: string) => flakes.get(commit) as SimulatedFlake,
      violated: (what: string) => simulator.fail(new Error(what)),
    };
    let number = 0;
    const organizations = Array.from({ length: random.pick([1, 1, 2]) }, () => {
      const workers = Array.from(
        { length: random.between(1, 4) },
        (_, i) => new WorkerMachine(surroundings, random, { number: ++number, able: !mixed || i === 0 }),
      );
      return { workers, projects: random.between(1, 3) };
    });
    const observer = database.open(null);
    const populated = await populate(observer, { random, simulator, organizations });
    const count = random.pick([1, 1, 2]);
    const machines = Array.from({ length: count }, (_, i) => ({
      number: i + 1,
      storage: count > 1 ? "one bucket" : null,
      simulator,
      database,
      network,
      random: random.fork(),
      secretKey,
      blobs,
      wakeUps,
    }));
    const facts = { universe, blobs, logs, flakes, losses };
    const standing = { observer, organizations: populated, machines, checker, facts, flakes };
    return new Simulation(parts, { ...standing, servers, losses, forgeries });
  }

  /** Throws with what went wrong. */
  async run(): Promise<void> {
    const { simulator, random } = this.#parts;
    for (const [i, machine] of this.#given.machines.entries()) this.#keepServer(machine, i * random.below(5_000));
    for (const { id, workers } of this.#given.organizations) {
      for (const worker of workers) this.#keepWorker(worker, id, random.below(3_000));
    }
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
      const people = `${this.#connected} workers are connected (${this.#network.describe()})`;
      throw new Error(`after ${limitMs} ms ${this.#open} evaluations have not ended; ${people}`);
    };
    await simulator.run(afterEach, done);
  }

  async #afterStep(): Promise<void> {
    const { database } = this.#parts;
    const { checker, observer } = this.#given;
    if (database.taken) throw new Error("a transaction waits for something that is not the database");
    if (this.#phase === "faults") this.#faults.step();
    checker.checkRunning();
    if (database.changes === this.#checkedChanges && !checker.hasPromises) return;
    this.#checkedChanges = database.changes;
    const { open, connected } = await checker.check(observer);
    this.#open = open;
    this.#connected = connected;
  }

  /** Everybody is there, and nothing is left to do. */
  #isQuiet(): boolean {
    const count = this.#workers.length;
    const servers = alive(this.#given.servers);
    const areUp = servers.length === this.#given.machines.length;
    const sessions = servers.reduce((sum, server) => sum + server.sessions, 0);
    const areJoined = this.#network.soundLinks === count && sessions === count;
    const haveWorkers = this.#workers.every(({ process }) => process !== null);
    return this.#open === 0 && areUp && haveWorkers && areJoined && this.#connected === count;
  }

  async #checkOutcome(): Promise<void> {
    const { checker, observer, facts } = this.#given;
    const { aborted, abortedBuilds } = this.#people;
    await checker.check(observer, { whole: true });
    await checkOutcome(observer, { ...facts, aborted, abortedBuilds, acknowledged: checker.acknowledged });
  }

  /** As many builds as all workers have places must all run at once. */
  async #probe(): Promise<void> {
    const { simulator } = this.#parts;
    this.#phase = "probing";
    const probes = [...this.#given.facts.universe.probes];
    for (const organization of this.#given.organizations) {
      const places = organization.workers.reduce((sum, { buildPlaces }) => sum + buildPlaces, 0);
      simulator.note(`probing ${places} places of ${organization.name}`);
      const attributes = probes.splice(0, places).map(({ name, drvPath }) => ({ name, drvPath }));
      this.#people.evaluateFlake(organization, { attributes, broken: false, warnings: 0 });
    }
    const from = simulator.elapsedMs;
    let begun = 0;
    await this.#until(from + PROBE_MS_MAX, () => {
      begun = Math.max(begun, this.#open);
      return begun === this.#given.organizations.length && this.#open === 0;
    });
    this.#phase = "over";
    await this.#checkOutcome();
  }

  /** As the system's service manager does: started again whenever it has ended. */
  #keepServer(machine: ServerMachine, delayMs: number): void {
    const { simulator } = this.#parts;
    const { serversStartedMs } = this.#given.checker;
    simulator.schedule(delayMs, () => {
      const server = new SimulatedServer(machine);
      this.#given.servers.set(machine.number, server);
      serversStartedMs.set(machine.number, simulator.elapsedMs);
      server.process.onDeath(() => {
        serversStartedMs.delete(machine.number);
        this.#keepServer(machine, this.#restartMs());
      });
      void server.start();
    });
  }

  #keepWorker(worker: WorkerMachine, organizationId: string, delayMs: number): void {
    this.#parts.simulator.schedule(delayMs, () => {
      worker.start(organizationId);
      worker.process?.onDeath(() => this.#keepWorker(worker, organizationId, this.#restartMs()));
    });
  }

  #restartMs(): number {
    const { random } = this.#parts;
    return this.#phase === "faults" ? random.pick([50, 500, 5_000, 20_000, 90_000]) : 500;
  }
}
