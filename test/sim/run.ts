import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MINUTE } from "#core/lib/clock.ts";
import type { SecretKey } from "#core/nix/signature.ts";
import { SimulatedDatabase } from "./database.ts";
import { Faults } from "./faults.ts";
import { PROBE_MS } from "./flake.ts";
import type { Ground } from "./ground.ts";
import { depsOfSome, type Installation, makeInstallation, type Parts, serversAlive } from "./installation.ts";
import { checkOutcome } from "./outcome.ts";
import { People } from "./people.ts";
import { Random } from "./random.ts";
import { Reasons } from "./reasons.ts";
import { type ServerMachine, SimulatedServer } from "./server.ts";
import { Simulator } from "./simulator.ts";
import type { WorkerMachine } from "./worker.ts";

/** After the last fault everything has ended within this: builds hang for minutes, and workers have few places. */
const SETTLE_MS_MAX: number = 40 * MINUTE;
/** For the last evaluation, whose builds all run at once: an evaluation, a build, and what lies between. */
const PROBE_MS_MAX: number = PROBE_MS + 60_000;
/** When nothing goes wrong any more, what has ended is back after this. */
const SOUND_RESTART_MS = 500;

export interface SimulationOptions {
  readonly seed: number;
  readonly ground: Ground;
  readonly secretKey: SecretKey;
}

export interface SimulationResult {
  readonly seed: number;
  readonly error: Error | null;
  readonly trace: readonly string[];
  readonly simulatedMs: number;
}

/** One run of a whole installation: what happens follows from the seed alone. */
export async function simulate({ seed, ground, secretKey }: SimulationOptions): Promise<SimulationResult> {
  const simulator = new Simulator();
  const random = new Random(seed);
  const database = await SimulatedDatabase.connect(simulator, ground, random.fork());
  const dataDir = await mkdtemp(join(tmpdir(), "gradient-sim-"));
  let error: Error | null = null;
  const stray = (reason: unknown) => simulator.fail(reason);
  process.on("unhandledRejection", stray);
  try {
    const parts = { simulator, random, database, secretKey, dataDir };
    const simulation = new Simulation(parts, await makeInstallation(parts));
    await simulation.run();
  } catch (failure) {
    error = failure instanceof Error ? failure : new Error(String(failure));
  } finally {
    process.off("unhandledRejection", stray);
    await database.close();
    await rm(dataDir, { recursive: true, force: true });
  }
  return { seed, error, trace: simulator.trace, simulatedMs: simulator.elapsedMs };
}

class Simulation {
  readonly #parts: Parts;
  readonly #installation: Installation;
  readonly #workers: readonly WorkerMachine[];
  readonly #people: People;
  readonly #faults: Faults;
  readonly #reasons: Reasons;
  #checkedChanges = -1;
  #open = 0;
  #connected = 0;
  #phase: "faults" | "scarcity" | "settling" | "probing" | "over" = "faults";
  #scarcityEndMs = 0;

  constructor(parts: Parts, installation: Installation) {
    this.#parts = parts;
    this.#installation = installation;
    this.#workers = installation.organizations.flatMap(({ workers }) => workers);
    const { simulator, database, random } = parts;
    const { network, wakeUps, organizations, flakes, losses, forgeries, universe } = installation;
    this.#reasons = new Reasons(simulator, network, organizations);
    const people = random.fork();
    const deps = () => depsOfSome(installation, people);
    this.#people = new People({ random: people, universe, organizations, simulator, flakes, deps });
    const targets = { simulator, database, network, wakeUps, workers: this.#workers, people: this.#people };
    const servers = () => serversAlive(installation);
    this.#faults = new Faults({ ...targets, losses, forgeries, servers }, random.fork());
  }

  /** Throws with what went wrong. */
  async run(): Promise<void> {
    const { simulator, random } = this.#parts;
    for (const [i, machine] of this.#installation.machines.entries())
      this.#keepServer(machine, i * random.below(5_000));
    for (const { id, workers } of this.#installation.organizations) {
      for (const worker of workers) this.#keepWorker(worker, id, random.below(3_000));
    }
    const count = random.between(1, 3);
    for (let i = 0; i < count; i++) simulator.schedule(random.between(500, 20_000), () => this.#people.evaluate());

    const faultsEndMs = random.between(40_000, 150_000);
    const scarcityMs = random.chance(0.5) ? random.between(60_000, 120_000) : 0;
    simulator.schedule(faultsEndMs, () => {
      this.#faults.end();
      simulator.note("faults end");
      this.#beginScarcity(scarcityMs);
    });
    await this.#until(faultsEndMs + scarcityMs + SETTLE_MS_MAX, () => this.#phase === "settling" && this.#isQuiet());
    await this.#checkOutcome();
    await this.#probe();
  }

  /** Some workers are away for a while, and everything says so. */
  #beginScarcity(ms: number): void {
    const { simulator, random } = this.#parts;
    this.#phase = "scarcity";
    this.#scarcityEndMs = simulator.elapsedMs + ms;
    simulator.schedule(ms, () => {
      this.#phase = "settling";
    });
    if (ms === 0) return;
    for (const worker of this.#workers) if (random.chance(0.6)) worker.kill(false);
    for (let i = random.between(1, 2); i > 0; i--)
      simulator.schedule(random.below(20_000), () => this.#people.evaluate());
  }

  async #until(limitMs: number, done: () => boolean): Promise<void> {
    const { simulator } = this.#parts;
    const afterEach = async () => {
      await this.#afterStep();
      if (simulator.elapsedMs <= limitMs) return;
      const people = `${this.#connected} workers are connected (${this.#installation.network.describe()})`;
      throw new Error(`after ${limitMs} ms ${this.#open} evaluations have not ended; ${people}`);
    };
    await simulator.run(afterEach, done);
  }

  async #afterStep(): Promise<void> {
    const { database } = this.#parts;
    const { checker, observer } = this.#installation;
    if (database.taken) throw new Error("a transaction waits for something that is not the database");
    if (this.#phase === "faults") this.#faults.step();
    checker.checkRunning();
    if (database.changes !== this.#checkedChanges || checker.hasPromises) {
      this.#checkedChanges = database.changes;
      const { open, connected } = await checker.check(observer);
      this.#open = open;
      this.#connected = connected;
    } else if (!this.#reasons.isDoubtful) return;
    if (this.#phase === "faults") return;
    if (serversAlive(this.#installation).length > 0) await this.#reasons.check(observer);
    else this.#reasons.forget();
  }

  /** Everybody is there, and nothing is left to do. */
  #isQuiet(): boolean {
    const count = this.#workers.length;
    const servers = serversAlive(this.#installation);
    const areUp = servers.length === this.#installation.machines.length;
    const sessions = servers.reduce((sum, server) => sum + server.sessions, 0);
    const areJoined = this.#installation.network.soundLinks === count && sessions === count;
    const haveWorkers = this.#workers.every(({ process }) => process !== null);
    return this.#open === 0 && areUp && haveWorkers && areJoined && this.#connected === count;
  }

  async #checkOutcome(): Promise<void> {
    const { checker, observer } = this.#installation;
    const { aborted, abortedBuilds } = this.#people;
    await checker.check(observer, { whole: true });
    await checkOutcome(observer, { ...this.#installation, aborted, abortedBuilds, acknowledged: checker.acknowledged });
  }

  /** As many builds as all workers have places must all run at once. */
  async #probe(): Promise<void> {
    const { simulator } = this.#parts;
    this.#phase = "probing";
    const probes = [...this.#installation.universe.probes];
    for (const organization of this.#installation.organizations) {
      const places = organization.workers.reduce((sum, { buildPlaces }) => sum + buildPlaces, 0);
      simulator.note(`probing ${places} places of ${organization.name}`);
      const attributes = probes.splice(0, places).map(({ name, drvPath }) => ({ name, drvPath }));
      this.#people.evaluateFlake(organization, { attributes, broken: false, warnings: 0 });
    }
    const from = simulator.elapsedMs;
    let begun = 0;
    await this.#until(from + PROBE_MS_MAX, () => {
      begun = Math.max(begun, this.#open);
      return begun === this.#installation.organizations.length && this.#open === 0;
    });
    this.#phase = "over";
    await this.#checkOutcome();
  }

  /** As the system's service manager does: started again whenever it has ended. */
  #keepServer(machine: ServerMachine, delayMs: number): void {
    const { simulator } = this.#parts;
    const { hearing } = this.#installation.checker;
    simulator.schedule(delayMs, () => {
      const server = new SimulatedServer(machine);
      this.#installation.servers.set(machine.number, server);
      hearing.serverCame(machine.number);
      server.process.onDeath(() => {
        hearing.serverWent(machine.number);
        this.#keepServer(machine, this.#serverRestartMs());
      });
      void server.start();
    });
  }

  #keepWorker(worker: WorkerMachine, organizationId: string, delayMs: number): void {
    this.#parts.simulator.schedule(delayMs, () => {
      worker.start(organizationId);
      worker.process?.onDeath(() => this.#keepWorker(worker, organizationId, this.#workerRestartMs()));
    });
  }

  #serverRestartMs(): number {
    return this.#phase === "faults" ? this.#faultyRestartMs() : SOUND_RESTART_MS;
  }

  #workerRestartMs(): number {
    if (this.#phase === "faults") return this.#faultyRestartMs();
    const scarceMs = this.#phase === "scarcity" ? this.#scarcityEndMs - this.#parts.simulator.elapsedMs : 0;
    return scarceMs + SOUND_RESTART_MS;
  }

  #faultyRestartMs(): number {
    return this.#parts.random.pick([50, 500, 5_000, 20_000, 90_000]);
  }
}
