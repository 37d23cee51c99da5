import type { EvaluationFrame } from "../api/evaluations.ts";
import { readDatabaseTime } from "../db/builds-read.ts";
import { listRecentEvaluations, type RecentEvaluation } from "../db/evaluations-read.ts";
import type { Actor } from "../domain/actor.ts";
import { ACTIVE_EVALUATION } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { HOUR } from "../lib/clock.ts";
import { requireProject } from "./access.ts";
import { WakeUp } from "./evaluations-wake-up.ts";
import type { WatchDeps, WatchOptions } from "./evaluations-watch.ts";
import {
  BuildChanges,
  isNewSince,
  type LiveItem,
  type LiveStart,
  LOOK_INTERVAL_MS,
  pauseAfter,
  progressFrame,
  startLive,
  statusFrame,
} from "./live-changes.ts";
import { LiveSubjects } from "./live-subjects.ts";
import type { ProjectName } from "./projects.ts";
import { requireStillSignedIn } from "./still-signed-in.ts";

const STREAM_MS_MAX: number = 1 * HOUR;
/** The newest evaluations of a project; what changes of older ones is not told. */
const EVALUATIONS_MAX = 50;

/**
 * Frames for every change of the project's newest evaluations and of the builds of those that go on; null where nothing
 * changed for a while. It begins with the status of each that goes on, and of the newest. Access is decided at every
 * look.
 */
export async function watchProject(
  deps: WatchDeps,
  actor: Actor,
  name: ProjectName,
  options: WatchOptions,
): Promise<AsyncGenerator<LiveItem>> {
  const { project } = await requireProject(deps, actor, name, "read");
  return follow(deps, { actor, name, projectId: project.id }, options);
}

interface Watched {
  readonly actor: Actor;
  readonly name: ProjectName;
  readonly projectId: string;
}

async function* follow(
  deps: WatchDeps,
  watched: Watched,
  { position: resumed, signal }: WatchOptions,
): AsyncGenerator<LiveItem> {
  const endsAt = deps.clock.monotonic() + STREAM_MS_MAX;
  const subjects = new LiveSubjects();
  const wakeUp = new WakeUp(deps, { topic: "evaluation", isSubject: (subject) => subjects.mayBeOwn(subject) });
  try {
    const start = await startLive(deps.db, resumed);
    const looks = new ProjectLooks(deps.db, watched.projectId, start);
    let position = String(start.since.getTime());
    for (let isFirst = true; !signal.aborted && deps.clock.monotonic() < endsAt; isFirst = false) {
      const lookedAt = deps.clock.monotonic();
      const at = await readDatabaseTime(deps.db);
      if (!(await isStillOpen(deps, watched))) return;
      const called = subjects.takeCalled();
      const { evaluations, frames } = await looks.next(at);
      subjects.learn(
        evaluations.map(({ id }) => id),
        called,
      );
      for (const frame of frames) yield { frame, position };
      position = String(at.getTime());
      if (frames.length === 0) yield { frame: null, position };
      const [newest] = evaluations;
      if (isFirst && start.missed && newest) yield { frame: progressFrame(newest, true), position };
      await wakeUp.wait({ atLeastMs: pauseAfter(deps.clock, lookedAt), atMostMs: LOOK_INTERVAL_MS, signal });
    }
  } finally {
    wakeUp.close();
  }
}

async function isStillOpen(deps: WatchDeps, { actor, name, projectId }: Watched): Promise<boolean> {
  try {
    await requireStillSignedIn(deps, actor);
    return (await requireProject(deps, actor, name, "read")).project.id === projectId;
  } catch (error) {
    if (error instanceof DomainError) return false;
    throw error;
  }
}

/** What changed from one look to the next. */
class ProjectLooks {
  readonly #db: WatchDeps["db"];
  readonly #projectId: string;
  readonly #start: LiveStart;
  #before: ReadonlyMap<string, RecentEvaluation> | null = null;
  #builds = new Map<string, BuildChanges>();

  constructor(db: WatchDeps["db"], projectId: string, start: LiveStart) {
    this.#db = db;
    this.#projectId = projectId;
    this.#start = start;
  }

  async next(
    at: Date,
  ): Promise<{ readonly evaluations: readonly RecentEvaluation[]; readonly frames: readonly EvaluationFrame[] }> {
    const evaluations = await listRecentEvaluations(this.#db, this.#projectId, EVALUATIONS_MAX);
    const frames: EvaluationFrame[] = [];
    const builds = new Map<string, BuildChanges>();
    for (const [index, evaluation] of evaluations.entries()) {
      const active = (ACTIVE_EVALUATION as readonly number[]).includes(evaluation.status);
      const known = this.#builds.get(evaluation.id);
      const isNew = this.#before === null && isNewSince(evaluation.updated_at, this.#start.since);
      // Also one last time after its end: the last builds changed with it.
      const changes = known ?? (active || isNew ? this.#changesOf(evaluation.id) : null);
      const { frames: changed, complete } = (await changes?.next(at)) ?? { frames: [], complete: true };
      frames.push(...changed, ...this.#framesOf(evaluation, { isNewest: index === 0, active, complete }));
      if (changes && active) builds.set(evaluation.id, changes);
    }
    this.#before = new Map(evaluations.map((evaluation) => [evaluation.id, evaluation]));
    this.#builds = builds;
    return { evaluations, frames };
  }

  #changesOf(evaluationId: string): BuildChanges {
    return new BuildChanges(this.#db, evaluationId, this.#start.since);
  }

  #framesOf(
    evaluation: RecentEvaluation,
    {
      isNewest,
      active,
      complete,
    }: { readonly isNewest: boolean; readonly active: boolean; readonly complete: boolean },
  ): EvaluationFrame[] {
    const again = complete ? [] : [progressFrame(evaluation, true)];
    if (this.#before === null) {
      const told = active || isNewest || isNewSince(evaluation.updated_at, this.#start.since);
      return told ? [...again, statusFrame(evaluation)] : again;
    }
    const before = this.#before.get(evaluation.id);
    if (before?.status !== evaluation.status) return [...again, statusFrame(evaluation)];
    if (again.length > 0 || evaluation.updated_at <= before.updated_at) return again;
    return [progressFrame(evaluation)];
  }
}
