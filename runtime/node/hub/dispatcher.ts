import { offerOf } from "#core/db/connected-workers.ts";
import type { FreeWorker } from "#core/domain/scheduling/choose.ts";
import { sleep } from "#core/lib/clock.ts";
import { dispatchBuilds, dispatchEvaluations } from "#core/services/transitions/dispatch.ts";
import { InputOrigins } from "#core/services/transitions/input-origins.ts";
import type { HubDeps } from "./deps.ts";
import type { WorkerSession } from "./session.ts";
import { Upkeep } from "./upkeep.ts";
import { WaitingReasons } from "./waiting-reasons.ts";
import type { WorkerJobs } from "./worker-jobs.ts";

/** When others took what was chosen, or hold it locked: it is looked at again after this. */
const CONTENDED_PAUSE_MS = 50;
/** A pass looks at some builds more than it gives out: a pass for each that becomes free would cost twice as much. */
const APART_MS = 15;

type Known = Pick<WorkerJobs, "description" | "grants">;

/**
 * Fills the free places of the workers of this server, and keeps what evaluations say they wait for. One pass runs at a
 * time; a kick during a pass starts another, 15 ms after a pass that gave out builds. Several servers may do this at
 * once on one database: each row is claimed by one.
 */
export class Dispatcher {
  readonly #deps: HubDeps;
  readonly #sessions: () => Iterable<WorkerSession>;
  readonly #reasons: WaitingReasons;
  readonly #origins = new InputOrigins();
  readonly #upkeep: Upkeep;
  #kicked = false;
  /** Something may be there that was not there before. Else it is only that a place for a build is free. */
  #changed = false;
  #running: Promise<void> | null = null;
  readonly #closing = new AbortController();
  /** What the sessions could do at the last pass. */
  #known = new Map<WorkerSession, Known>();

  constructor(deps: HubDeps, sessions: () => Iterable<WorkerSession>) {
    this.#deps = deps;
    this.#sessions = sessions;
    this.#reasons = new WaitingReasons(deps, () => this.kick());
    this.#upkeep = new Upkeep(deps);
  }

  kick(): void {
    this.#changed = true;
    this.kickForBuilds();
  }

  /** For what can only have given a build a place. */
  kickForBuilds(): void {
    this.#kicked = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      if (this.#kicked) this.kickForBuilds();
    });
  }

  /** Starts nothing any more. Resolves when what is under way has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#reasons.close();
    await this.#running;
    await this.#upkeep.close();
  }

  async #run(): Promise<void> {
    // Lets the messages that have arrived with the one that kicked be counted too.
    await Promise.resolve();
    while (this.#kicked) {
      try {
        for (;;) {
          const nextMs = this.#deps.clock.monotonic() + APART_MS;
          if (!(await this.#pass())) break;
          const leftMs = nextMs - this.#deps.clock.monotonic();
          if (leftMs > 0) await sleep(this.#deps.clock, leftMs, this.#closing.signal);
        }
        this.#upkeep.look();
      } catch (error) {
        // The poll interval brings the next pass.
        this.#changed = true;
        this.#deps.log.error("a dispatch pass failed", { error });
      }
    }
  }

  /** True when there may be more to do at once. */
  async #pass(): Promise<boolean> {
    // Whoever kicked until now is seen by this pass.
    this.#kicked = false;
    this.#announceChanges();
    const jobsByKey = new Map<string, WorkerJobs>();
    for (const { id, jobs, connection } of this.#sessions()) {
      if (jobs && !jobs.draining && !connection.closed) jobsByKey.set(id, jobs);
    }
    const workers = Array.from(jobsByKey, ([key, jobs]) => freeWorker(key, jobs));
    const changed = this.#changed;
    this.#changed = false;
    // Queued evaluations are few, and so are builds that have to be resolved: a free place alone brings none.
    const evaluations = changed ? await dispatchEvaluations(this.#deps, workers) : [];
    for (const { key, group, ...evaluation } of evaluations) {
      const jobs = jobsByKey.get(key) as WorkerJobs;
      if (jobs.assignEvaluation(evaluation, group)) takePlace(jobs.free.evaluations, group);
    }
    const { assigned, chosen } = await dispatchBuilds(this.#deps, workers, this.#origins, { resolve: changed });
    for (const { key, group, ...build } of assigned) {
      const jobs = jobsByKey.get(key) as WorkerJobs;
      if (jobs.assignBuild(build, group)) takePlace(jobs.free.builds, group);
    }
    if (chosen > assigned.length) this.#deps.clock.schedule(CONTENDED_PAUSE_MS, () => this.kick());
    const resumed = await this.#reasons.look();
    if (resumed || evaluations.length > 0) this.#changed = true;
    return assigned.length > 0 || evaluations.length > 0 || resumed;
  }

  /** Other servers give reasons for the same evaluations: they hear when workers come, go or change. */
  #announceChanges(): void {
    const now = new Map<WorkerSession, Known>();
    for (const session of this.#sessions()) {
      const { jobs, connection } = session;
      if (jobs && !connection.closed) now.set(session, { description: jobs.description, grants: jobs.grants });
    }
    const organizationIds = new Set<string>();
    for (const session of new Set([...now.keys(), ...this.#known.keys()])) {
      const [before, after] = [this.#known.get(session), now.get(session)];
      if (before && after && before.description === after.description && before.grants === after.grants) continue;
      for (const { grants } of [before, after].filter((one) => one !== undefined)) {
        for (const { organizationId } of grants) organizationIds.add(organizationId);
      }
    }
    this.#known = now;
    for (const organizationId of organizationIds) this.#deps.notifier.notify("work", organizationId);
  }
}

function takePlace(free: number[], group: number): void {
  free[group] = Math.max(0, (free[group] ?? 0) - 1);
}

/** What may be sent to the session now. */
function freeWorker(key: string, jobs: WorkerJobs): FreeWorker {
  const offer = offerOf(jobs.options.workerId, jobs.description, jobs.grants);
  let room = jobs.buildRoom;
  const groups = offer.groups.map((group, index) => {
    const places = Math.min(jobs.free.builds[index] ?? 0, room);
    room -= places;
    return { ...group, places };
  });
  return {
    ...offer,
    key,
    groups,
    placesAll: offer.groups.map(({ places }) => places),
    placesIdle:
      offer.groups.length === 1
        ? [Math.max(0, jobs.buildPlaces - jobs.attempts.unreportedBuilds)]
        : offer.groups.map(({ places }) => places),
    evaluationPlaces: jobs.free.evaluations.reduce((sum, places) => sum + places, 0),
    ...(offer.evaluationGroups && {
      evaluationGroups: offer.evaluationGroups.map((group, index) => ({
        ...group,
        places: jobs.free.evaluations[index] ?? 0,
      })),
    }),
    freeMemoryMb: jobs.metrics?.ram_free_mb ?? (jobs.description.ram_total_mb || null),
  };
}
