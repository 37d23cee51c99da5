import type { DeployState } from "../api/hosts.ts";
import { listRecentEvaluations } from "../db/evaluations-read.ts";
import { findDeployingProject } from "../db/projects.ts";
import { decideFor } from "../domain/deployment.ts";
import { type LoadedFleet, loadFleet } from "./deployments-fleet.ts";
import type { ServiceDeps } from "./deps.ts";
import { WakeUp } from "./evaluations-wake-up.ts";
import { LOOK_INTERVAL_MS, pauseAfter } from "./live-changes.ts";
import { LiveSubjects } from "./live-subjects.ts";

export type FleetWatchDeps = Pick<ServiceDeps, "db" | "clock" | "notifier" | "log">;

/** What a waiting host knows. */
export interface SeenDecision {
  /** `none` without one. */
  readonly build: string;
  readonly state: DeployState;
}

/** The newest evaluations of a project; word about older ones wakes nobody. */
const EVALUATIONS_MAX = 50;
/** Many projects with waiting hosts are looked at less often where no word comes: at most 20 a second. */
const LOOK_MS_EACH = 50;

interface Waiter {
  readonly host: string;
  readonly seen: SeenDecision;
  readonly leave: () => void;
}

/** Those who wait for one project. */
interface Room {
  readonly waiters: Set<Waiter>;
  /** Aborted when the last one has left. */
  readonly empty: AbortController;
}

/** Hosts that wait for another decision. Those of one project share its looks into the database. */
export class FleetWatch {
  readonly #deps: FleetWatchDeps;
  readonly #rooms = new Map<string, Room>();

  constructor(deps: FleetWatchDeps) {
    this.#deps = deps;
  }

  /** Resolves when the decision about the host is another than was seen; also when the time is over, or by mistake. */
  async untilOther(
    projectId: string,
    host: string,
    {
      seen,
      atMostMs,
      signal,
    }: { readonly seen: SeenDecision; readonly atMostMs: number; readonly signal: AbortSignal },
  ): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const leave = () => resolve();
    const waiter: Waiter = { host, seen, leave };
    const room = this.#enter(projectId, waiter);
    const cancel = this.#deps.clock.schedule(atMostMs, leave);
    signal.addEventListener("abort", leave, { once: true });
    try {
      await promise;
    } finally {
      cancel();
      signal.removeEventListener("abort", leave);
      room.waiters.delete(waiter);
      if (room.waiters.size === 0) this.#close(projectId, room);
    }
  }

  #enter(projectId: string, waiter: Waiter): Room {
    const known = this.#rooms.get(projectId);
    if (known) {
      known.waiters.add(waiter);
      return known;
    }
    const room = { waiters: new Set([waiter]), empty: new AbortController() };
    this.#rooms.set(projectId, room);
    void this.#look(projectId, room);
    return room;
  }

  #close(projectId: string, room: Room): void {
    if (this.#rooms.get(projectId) === room) this.#rooms.delete(projectId);
    room.empty.abort();
  }

  /** Looks again and again while somebody waits. */
  async #look(projectId: string, room: Room): Promise<void> {
    const subjects = new LiveSubjects();
    const wakeUp = new WakeUp(
      this.#deps,
      { topic: "deployment", isSubject: (subject) => subject === projectId },
      { topic: "evaluation", isSubject: (subject) => subjects.mayBeOwn(subject) },
    );
    const { signal } = room.empty;
    try {
      while (!signal.aborted) {
        const lookedAt = this.#deps.clock.monotonic();
        await this.#tell(projectId, room.waiters, subjects);
        const atMostMs = Math.max(LOOK_INTERVAL_MS, this.#rooms.size * LOOK_MS_EACH);
        await wakeUp.wait({ atLeastMs: pauseAfter(this.#deps.clock, lookedAt), atMostMs, signal });
      }
    } catch (error) {
      // Each asks for itself, and is told by that what is wrong.
      this.#deps.log.warn("hosts that wait were not looked after", { error, project: projectId });
    } finally {
      this.#close(projectId, room);
      wakeUp.close();
      for (const { leave } of room.waiters) leave();
    }
  }

  async #tell(projectId: string, waiters: ReadonlySet<Waiter>, subjects: LiveSubjects): Promise<void> {
    const { db } = this.#deps;
    const called = subjects.takeCalled();
    const evaluations = await listRecentEvaluations(db, projectId, EVALUATIONS_MAX);
    subjects.learn(
      evaluations.map(({ id }) => id),
      called,
    );
    const project = await findDeployingProject(db, projectId);
    const names = [...new Set(Array.from(waiters, ({ host }) => host))];
    const loaded = project && (await loadFleet(this.#deps, project, names));
    for (const { host, seen, leave } of waiters) if (!loaded || isOther(loaded, host, seen)) leave();
  }
}

function isOther({ fleet, rows, nowMs }: LoadedFleet, host: string, seen: SeenDecision): boolean {
  const { state } = decideFor(fleet, host, nowMs);
  const build = state === "none" ? undefined : rows.get(host)?.link_id;
  return state !== seen.state || (build ?? "none") !== seen.build;
}
