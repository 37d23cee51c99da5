import type { EvaluationFrame } from "../api/evaluations.ts";
import { readDatabaseTime } from "../db/builds-read.ts";
import type { EvaluationOwner } from "../db/evaluations-read.ts";
import { type ChangedBuild, listChangedBuilds } from "../db/evaluations-read-builds.ts";
import { HOUR, SECOND } from "../lib/clock.ts";
import type { ServiceDeps } from "./deps.ts";

/** What live streams look at when nobody told them to: a wake-up may be lost. */
export const LOOK_INTERVAL_MS: number = 5 * SECOND;
/** Of all looks of one stream at most about a tenth of the time is spent in the database. */
const LOOK_PAUSE_MS_MIN = 500;
const LOOK_PAUSE_FACTOR = 10;
/** Longer than a transaction that changes builds takes: rows show up at their commit with the time before it. */
const OVERLAP_MS: number = 10 * SECOND;
/** Beyond it the reader is told to ask again instead. */
const CHANGES_MAX = 1_000;
/** Who was away for longer is told to ask again. */
const AWAY_MS_MAX: number = HOUR;
const POSITION = /^\d{1,15}$/;

/** A frame, or null where nothing changed for a while, and where to go on for who is cut off behind it. */
export interface LiveItem {
  readonly frame: EvaluationFrame | null;
  readonly position: string;
}

/** Where a live stream begins. */
export interface LiveStart {
  readonly since: Date;
  /** What changed before cannot be told: everything is to be asked for again. */
  readonly missed: boolean;
}

/** `position`: what a stream gave with its last frame to a reader who comes again; null for one who comes first. */
export async function startLive(db: ServiceDeps["db"], position: string | null): Promise<LiveStart> {
  const now = await readDatabaseTime(db);
  const at = position !== null && POSITION.test(position) ? Number(position) : null;
  const known = at !== null && at <= now.getTime() && at >= now.getTime() - AWAY_MS_MAX;
  return known ? { since: new Date(at), missed: false } : { since: now, missed: position !== null };
}

/** The pause after a look that began at `lookedAt`. */
export function pauseAfter(clock: ServiceDeps["clock"], lookedAt: number): number {
  return Math.max((clock.monotonic() - lookedAt) * LOOK_PAUSE_FACTOR, LOOK_PAUSE_MS_MIN);
}

/** Whether something that changed then may not have been told by a look at `since`. */
export function isNewSince(changed: Date, since: Date): boolean {
  return changed.getTime() >= since.getTime() - OVERLAP_MS;
}

/** Finds which builds of an evaluation changed since the last time; remembers what the overlap of two looks needs. */
export class BuildChanges {
  readonly #db: ServiceDeps["db"];
  readonly #evaluationId: string;
  #shown = new Map<string, ChangedBuild>();
  #since: Date;

  constructor(db: ServiceDeps["db"], evaluationId: string, since: Date) {
    this.#db = db;
    this.#evaluationId = evaluationId;
    this.#since = since;
  }

  /** `now`: the database's time before this look. Not complete: more changed than is told; the oldest are left out. */
  async next(now: Date): Promise<{ readonly frames: readonly EvaluationFrame[]; readonly complete: boolean }> {
    const from = new Date(this.#since.getTime() - OVERLAP_MS);
    const rows = await listChangedBuilds(this.#db, this.#evaluationId, from, CHANGES_MAX);
    const changed = rows.filter(({ id, status }) => this.#shown.get(id)?.status !== status);
    this.#shown = new Map(rows.map((row) => [row.id, row]));
    this.#since = now;
    return { frames: changed.map((build) => this.#frame(build)), complete: rows.length < CHANGES_MAX };
  }

  #frame({ id, status }: ChangedBuild): EvaluationFrame {
    return { type: "build_status_changed", evaluation_id: this.#evaluationId, build_id: id, status };
  }
}

export function statusFrame({ id, project_id, status }: StatedEvaluation): EvaluationFrame {
  return { type: "evaluation_status_changed", project: project_id, evaluation_id: id, status };
}

export function progressFrame({ id, project_id }: StatedEvaluation, readAnew = false): EvaluationFrame {
  const frame = { type: "evaluation_progress", project: project_id, evaluation_id: id } as const;
  return readAnew ? { ...frame, read_anew: true } : frame;
}

type StatedEvaluation = Pick<EvaluationOwner, "id" | "project_id" | "status">;
