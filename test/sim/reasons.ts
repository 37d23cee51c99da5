import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { PROBE_SYSTEM } from "./flake.ts";
import type { Network } from "./network.ts";
import type { Simulator } from "./simulator.ts";
import type { WorkerMachine } from "./worker.ts";
import type { SimulatedOrganization } from "./world.ts";

/** The longest pause between two looks of a server, twice: longer no reason may be wrong, and no place stay free. */
const WRONG_MS_MAX = 30_000;

interface ReadyBuild {
  readonly id: string;
  readonly organization: string;
  readonly system: string;
  readonly features: readonly string[];
  /** Evaluations that build and wait for it. */
  readonly evaluations: readonly string[];
}

interface Facts {
  readonly evaluations: readonly {
    readonly id: string;
    readonly organization: string;
    readonly building: boolean;
    readonly reason: { readonly kind: string; readonly unmet?: readonly Unmet[] } | null;
  }[];
  readonly ready: readonly ReadyBuild[];
  /** By worker, how many builds it holds. */
  readonly held: Readonly<Record<string, number>>;
}

interface Unmet {
  readonly architecture: string;
  readonly required_features: readonly string[];
  readonly build_count: number;
}

const look = sql<Facts>`
  select
    (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'organization', organization_id, 'reason', waiting_reason,
        'building', building_started_at is not null and status <> 0)), '[]')
      from evaluation where status in (0, 3, 4)) as evaluations,
    (select coalesce(jsonb_agg(jsonb_build_object('id', b.id, 'organization', b.organization_id, 'system', b.system,
        'features', to_jsonb(b.required_features), 'evaluations', (
          select coalesce(jsonb_agg(e.id), '[]') from evaluation_build l join evaluation e on e.id = l.evaluation_id
          where l.build_id = b.id and l.outcome is null and e.building_started_at is not null
            and e.status in (3, 4)))), '[]')
      from build b where b.status = 1) as ready,
    (select coalesce(jsonb_object_agg(worker_id, count), '{}') from (
      select worker_id, count(*)::int as count from attempt
      where finished_at is null and build_id is not null group by worker_id) as a) as held`;

/**
 * What evaluations say that they wait for, and what is given out, against what the machines are really like. Only while
 * nothing goes wrong; what is wrong for a moment is looked at again.
 */
export class Reasons {
  readonly #simulator: Simulator;
  readonly #network: Network;
  readonly #organizations: readonly SimulatedOrganization[];
  #wrongSince = new Map<string, number>();

  constructor(simulator: Simulator, network: Network, organizations: readonly SimulatedOrganization[]) {
    this.#simulator = simulator;
    this.#network = network;
    this.#organizations = organizations;
  }

  /** Something was wrong when they were looked at; without a change in the database it may have become right. */
  get isDoubtful(): boolean {
    return this.#wrongSince.size > 0;
  }

  /** No server runs: nobody could have set right what was wrong. */
  forget(): void {
    this.#wrongSince.clear();
  }

  /** Throws with what has been wrong for too long. Some server runs. */
  async check(db: Kysely<Database>): Promise<void> {
    const { rows } = await look.execute(db);
    const now = this.#simulator.elapsedMs;
    const wrong = new Map<string, number>();
    for (const what of this.#wrongs(rows[0] as Facts)) wrong.set(what, this.#wrongSince.get(what) ?? now);
    this.#wrongSince = wrong;
    const old = [...wrong].find(([, since]) => now - since > WRONG_MS_MAX);
    if (old) throw new Error(`for ${now - old[1]} ms: ${old[0]}`);
  }

  #wrongs(facts: Facts): string[] {
    const clear = this.#organizations.filter(({ workers }) => !workers.some((worker) => this.#isUnclear(worker)));
    return clear.flatMap((organization) => {
      const workers = organization.workers.filter((worker) => this.#isThere(worker));
      const own = facts.ready.filter((build) => build.organization === organization.id);
      const blocked = own.filter((build) => !workers.some((worker) => canRun(worker, build)));
      const heard = workers.filter((worker) => this.#isHeard(worker));
      return [...this.#wrongReasons(organization, facts, blocked, workers.length), ...idle(own, heard, facts)];
    });
  }

  #wrongReasons({ id }: SimulatedOrganization, facts: Facts, blocked: ReadyBuild[], workers: number): string[] {
    return facts.evaluations.flatMap((evaluation) => {
      if (evaluation.organization !== id || evaluation.reason?.kind === "recovery") return [];
      const waits = blocked.filter(({ evaluations }) => evaluations.includes(evaluation.id));
      const isQueued = !evaluation.building;
      const right = isQueued
        ? workers === 0
          ? "eval_workers"
          : ""
        : waits.length > 0
          ? `workers ${needs(waits)}`
          : "";
      const said = describe(evaluation.reason);
      return said === right ? [] : [`evaluation ${evaluation.id} says it waits for "${said}", which is "${right}"`];
    });
  }

  /** A server has a session with it, as far as it can know, and it takes work. */
  #isThere(worker: WorkerMachine): boolean {
    if (worker.process && worker.stopping) return false;
    return this.#isJoined(worker);
  }

  /** It is about to stop, and whether the server has heard that nobody can say. */
  #isUnclear(worker: WorkerMachine): boolean {
    return worker.process !== null && worker.stopping && this.#isJoined(worker) && !this.#isHeard(worker);
  }

  #isJoined({ id }: WorkerMachine): boolean {
    return [...this.#network.links].some(({ workerId, toServer }) => workerId === id && !toServer.closed);
  }

  /** What it asks for arrives. */
  #isHeard(worker: WorkerMachine): boolean {
    const now = this.#simulator.elapsedMs;
    return [...this.#network.links].some(({ workerId, toServer, toWorker }) => {
      const ends = [toServer, toWorker];
      return (
        workerId === worker.id && ends.every((end) => !end.closed && !end.silent && !end.gone && end.heldUntilMs < now)
      );
    });
  }
}

function idle(ready: readonly ReadyBuild[], workers: readonly WorkerMachine[], { held }: Facts): string[] {
  return ready.flatMap((build) =>
    workers
      .filter((worker) => canRun(worker, build) && worker.buildPlaces > (held[worker.id] ?? 0))
      .map((worker) => `build ${build.id} is ready, and ${worker.name} has a place for it`),
  );
}

function canRun({ architectures, features }: WorkerMachine, build: ReadyBuild): boolean {
  const isRight = build.system === PROBE_SYSTEM || architectures.includes(build.system);
  return isRight && build.features.every((feature) => features.includes(feature));
}

function describe(reason: Facts["evaluations"][number]["reason"]): string {
  if (reason?.kind !== "workers") return reason?.kind ?? "";
  const unmet = (reason.unmet ?? []).map(
    (need) => `${need.architecture}[${need.required_features}]${need.build_count}`,
  );
  return `workers ${unmet.sort().join(" ")}`;
}

function needs(builds: readonly ReadyBuild[]): string {
  const groups = Map.groupBy(builds, ({ system, features }) => `${system}[${features}]`);
  return Array.from(groups, ([need, list]) => `${need}${list.length}`)
    .sort()
    .join(" ");
}
