import { readDatabaseTime } from "../db/builds-read.ts";
import type { EvaluationOwner } from "../db/evaluations-read.ts";
import type { Actor } from "../domain/actor.ts";
import { ACTIVE_EVALUATION } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { HOUR } from "../lib/clock.ts";
import { requireBuild } from "./builds.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireEvaluation } from "./evaluations.ts";
import { WakeUp } from "./evaluations-wake-up.ts";
import {
  BuildChanges,
  type LiveItem,
  LOOK_INTERVAL_MS,
  pauseAfter,
  progressFrame,
  startLive,
  statusFrame,
} from "./live-changes.ts";
import { requireStillSignedIn } from "./still-signed-in.ts";

/** Afterwards the client comes again, with its credentials. */
const STREAM_MS_MAX: number = 1 * HOUR;

export type WatchDeps = Pick<ServiceDeps, "db" | "clock" | "notifier">;

export interface WatchOptions {
  /** What the stream gave with its last frame, to a reader who comes again. */
  readonly position: string | null;
  readonly signal: AbortSignal;
}

/**
 * Frames for every change of the evaluation and its builds, until it ends; null where nothing changed for a while. The
 * first frame holds the status now. Access is decided before the first frame and again at every look. Nothing is made
 * ahead of its reader: one who lags misses changes that were overtaken, and is told to read anew where more changed
 * than is told.
 */
export async function watchEvaluation(
  deps: WatchDeps,
  actor: Actor,
  id: string,
  options: WatchOptions,
): Promise<AsyncGenerator<LiveItem>> {
  const owner = await requireEvaluation(deps, actor, id, "read");
  return follow(deps, actor, owner, options);
}

/** As `watchEvaluation`, for the evaluation of a build. */
export async function watchBuild(
  deps: WatchDeps,
  actor: Actor,
  id: string,
  options: WatchOptions,
): Promise<AsyncGenerator<LiveItem>> {
  const { evaluation_id } = await requireBuild(deps, actor, id);
  return await watchEvaluation(deps, actor, evaluation_id, options);
}

async function* follow(
  deps: WatchDeps,
  actor: Actor,
  first: EvaluationOwner,
  { position: resumed, signal }: WatchOptions,
): AsyncGenerator<LiveItem> {
  const endsAt = deps.clock.monotonic() + STREAM_MS_MAX;
  const wakeUp = new WakeUp(deps, { topic: "evaluation", isSubject: (subject) => subject === first.id });
  try {
    const start = await startLive(deps.db, resumed);
    const changes = new BuildChanges(deps.db, first.id, start.since);
    let position = String(start.since.getTime());
    let before = first;
    yield { frame: statusFrame(first), position };
    if (start.missed) yield { frame: progressFrame(first, true), position };
    // The status is read again: it may have changed before the subscription.
    for (let notified = false; !signal.aborted && deps.clock.monotonic() < endsAt; ) {
      const lookedAt = deps.clock.monotonic();
      const at = await readDatabaseTime(deps.db);
      const now = await lookAgain(deps, actor, first.id);
      if (!now) return;
      const { frames, complete } = await changes.next(at);
      // Who is cut off before the last of them is told all of them again.
      for (const frame of frames) yield { frame, position };
      position = String(at.getTime());
      if (notified || !complete || now.updated_at > before.updated_at) {
        yield { frame: progressFrame(now, !complete), position };
      } else if (frames.length === 0) yield { frame: null, position };
      if (now.status !== before.status) yield { frame: statusFrame(now), position };
      if (!(ACTIVE_EVALUATION as readonly number[]).includes(now.status)) return;
      before = now;
      const atLeastMs = pauseAfter(deps.clock, lookedAt);
      notified = await wakeUp.wait({ atLeastMs, atMostMs: LOOK_INTERVAL_MS, signal });
    }
  } finally {
    wakeUp.close();
  }
}

/** Null when the actor may not see it any more, or it is gone. */
async function lookAgain(deps: WatchDeps, actor: Actor, id: string): Promise<EvaluationOwner | null> {
  try {
    await requireStillSignedIn(deps, actor);
    return await requireEvaluation(deps, actor, id, "read");
  } catch (error) {
    if (error instanceof DomainError) return null;
    throw error;
  }
}
