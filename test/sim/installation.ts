import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import type { SecretKey } from "#core/nix/signature.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { HubDeps } from "#runtime/node/hub/deps.ts";
import { Checker } from "./checks.ts";
import type { SimulatedDatabase } from "./database.ts";
import { makeUniverse, type SimulatedFlake, type Universe } from "./flake.ts";
import { Forgeries } from "./forgeries.ts";
import { Losses } from "./losses.ts";
import { type Link, Network } from "./network.ts";
import type { Random } from "./random.ts";
import type { ServerMachine, SimulatedServer } from "./server.ts";
import type { Simulator } from "./simulator.ts";
import { WakeUps } from "./wake-ups.ts";
import { type RunningExecutor, WorkerMachine } from "./worker.ts";
import { populate, type SimulatedOrganization } from "./world.ts";

/** As many as two organizations' workers have places. */
const PROBES = 24;

export interface Parts {
  readonly simulator: Simulator;
  readonly random: Random;
  readonly database: SimulatedDatabase;
  readonly secretKey: SecretKey;
  readonly dataDir: string;
}

/** What stands before the first event, and who looks at it. */
export interface Installation {
  readonly observer: Kysely<Database>;
  readonly organizations: readonly SimulatedOrganization[];
  readonly machines: readonly ServerMachine[];
  readonly network: Network;
  readonly wakeUps: WakeUps;
  readonly universe: Universe;
  /** By commit. */
  readonly flakes: Map<string, SimulatedFlake>;
  /** Of each attempt the whole log, as its builder wrote it. */
  readonly logs: ReadonlyMap<string, string>;
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  readonly checker: Checker;
  readonly losses: Losses;
  readonly forgeries: Forgeries;
  /** By number, the last process of each. */
  readonly servers: Map<number, SimulatedServer>;
}

/** Those that run. */
export function serversAlive({ servers }: Pick<Installation, "servers">): SimulatedServer[] {
  return [...servers.values()].filter(({ process }) => process.alive);
}

/** What some server that runs works with. */
export function depsOfSome(installation: Pick<Installation, "servers">, random: Random): HubDeps | null {
  return random.pick(serversAlive(installation))?.deps ?? null;
}

/** Machines, organizations and a universe of derivations, as the seed has them. The database is migrated and empty. */
export async function makeInstallation(parts: Parts): Promise<Installation> {
  const { simulator, random, database, secretKey, dataDir } = parts;
  const running = new Map<string, RunningExecutor>();
  const done = new Map<string, () => boolean>();
  const forgeries = new Forgeries(random.fork(), simulator, running);
  const servers = new Map<number, SimulatedServer>();
  const blobs = new Map<string, Uint8Array>();
  const lossRandom = random.fork();
  const losses = new Losses({ random: lossRandom, simulator, blobs, deps: () => depsOfSome({ servers }, lossRandom) });
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
  const made = { observer, organizations: populated, machines, network, wakeUps, universe, flakes, logs, blobs };
  return { ...made, checker, losses, forgeries, servers };
}
