import type { EvaluationFrame } from "../api/evaluations.ts";
import { readDatabaseTime } from "../db/builds-read.ts";
import type { EvaluationOwner } from "../db/evaluations-read.ts";
import { type ChangedBuild, listChangedBuilds } from "../db/evaluations-read-builds.ts";
import type { Actor } from "../domain/actor.ts";
import { ACTIVE_EVALUATION } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { HOUR, SECOND } from "../lib/clock.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireEvaluation } from "./evaluations.ts";
import { WakeUp } from "./evaluations-wake-up.ts";

/** What the stream looks at when nobody told it to: a wake-up may be lost. */
const LOOK_INTERVAL_MS: number = 5 * SECOND;
/** Of all looks of one stream at most about a tenth of the time is spent in the database. */
const LOOK_PAUSE_MS_MIN = 500;
const LOOK_PAUSE_FACTOR = 10;
/** Longer than a transaction that changes builds takes: rows show up at their commit with the time before it. */
const OVERLAP_MS: number = 10 * SECOND;
/** Beyond it the reader is told to ask again instead. */
const CHANGES_MAX = 1_000;
/** Afterwards the client comes again, with its credentials. */
const STREAM_MS_MAX: number = 1 * HOUR;

export type WatchDeps = Pick<ServiceDeps, "db" | "clock" | "notifier">;

/**
 * Frames for every change of the evaluation and its builds, until it ends; null where nothing changed for a while. The
 * first frame holds the status now. Access is decided before the first frame and again at every look.
 */
export async function watchEvaluation(
  deps: WatchDeps,
  actor: Actor,
  id: string,
  signal: AbortSignal,
): Promise<AsyncGenerator<EvaluationFrame | null>> {
  const owner = await requireEvaluation(deps, actor, id, "read");
  return follow(deps, actor, owner, signal);
}

async function* follow(
  deps: WatchDeps,
  actor: Actor,
  first: EvaluationOwner,
  signal: AbortSignal,
): AsyncGenerator<EvaluationFrame | null> {
  const endsAt = deps.clock.monotonic() + STREAM_MS_MAX;
  const wakeUp = new WakeUp(deps, { topic: "evaluation", subject: first.id });
  const changes = new Changes(deps.db, first.id);
  try {
    await changes.start();
    let before = first;
    yield statusFrame(first);
    // The status is read again: it may have changed before the subscription.
    for (let notified = false; !signal.aborted && deps.clock.monotonic() < endsAt; ) {
      const lookedAt = deps.clock.monotonic();
      const now = await lookAgain(deps, actor, first.id);
      if (!now) return;
      const { builds, complete } = await changes.next();
      for (const build of builds) yield buildFrame(first.id, build);
      if (notified || !complete || now.updated_at > before.updated_at) yield progressFrame(now);
      else if (builds.length === 0) yield null;
      if (now.status !== before.status) yield statusFrame(now);
      if (!(ACTIVE_EVALUATION as readonly number[]).includes(now.status)) return;
      before = now;
      const pauseMs = Math.max((deps.clock.monotonic() - lookedAt) * LOOK_PAUSE_FACTOR, LOOK_PAUSE_MS_MIN);
      notified = await wakeUp.wait({ atLeastMs: pauseMs, atMostMs: LOOK_INTERVAL_MS, signal });
    }
  } finally {
    wakeUp.close();
  }
}

/** Null when the actor may not see it any more, or it is gone. */
async function lookAgain(deps: WatchDeps, actor: Actor, id: string): Promise<EvaluationOwner | null> {
  try {
    return await requireEvaluation(deps, actor, id, "read");
  } catch (error) {
    if (error instanceof DomainError) return null;
    throw error;
  }
}

/** Finds what changed since the last time, and remembers only as much as the overlap of two looks needs. */
class Changes {
  readonly #db: WatchDeps["db"];
  readonly #evaluationId: string;
  #shown = new Map<string, ChangedBuild>();
  #since = new Date(0);

  constructor(db: WatchDeps["db"], evaluationId: string) {
    this.#db = db;
    this.#evaluationId = evaluationId;
  }

  async start(): Promise<void> {
    this.#since = await readDatabaseTime(this.#db);
  }

  /** Not complete: there were more changes than are listed, and the oldest are left out. */
  async next(): Promise<{ readonly builds: readonly ChangedBuild[]; readonly complete: boolean }> {
    const now = await readDatabaseTime(this.#db);
    const from = new Date(this.#since.getTime() - OVERLAP_MS);
    const rows = await listChangedBuilds(this.#db, this.#evaluationId, from, CHANGES_MAX);
    const builds = rows.filter(({ id, status }) => this.#shown.get(id)?.status !== status);
    this.#shown = new Map(rows.map((row) => [row.id, row]));
    this.#since = now;
    return { builds, complete: rows.length < CHANGES_MAX };
  }
}

function statusFrame({ id, project_id, status }: EvaluationOwner): EvaluationFrame {
  return { type: "evaluation_status_changed", project: project_id, evaluation_id: id, status };
}

function progressFrame({ id, project_id }: EvaluationOwner): EvaluationFrame {
  return { type: "evaluation_progress", project: project_id, evaluation_id: id };
}

function buildFrame(evaluationId: string, { id, status }: ChangedBuild): EvaluationFrame {
  return { type: "build_status_changed", evaluation_id: evaluationId, build_id: id, status };
}
