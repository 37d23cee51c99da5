import { readDatabaseTime } from "../db/builds-read.ts";
import { type LoggedAttempt, listLogLengths, listNewAttempts, pageLoggedAttempts } from "../db/evaluation-logs.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { ACTIVE_EVALUATION } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { HOUR, SECOND, sleep } from "../lib/clock.ts";
import { type LogReadDeps, readLogBytes } from "./build-logs-read.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireEvaluation } from "./evaluations.ts";
import { labelLines } from "./log-lines.ts";
import { requireStillSignedIn } from "./still-signed-in.ts";

export type EvaluationLogDeps = LogReadDeps & Pick<ServiceDeps, "clock">;

const BUILDS_A_PAGE = 1_000;
/** How often logs are looked at that may grow: one query for all of them. */
const LOOK_INTERVAL_MS: number = 1 * SECOND;
/** Looking for new attempts goes through all links: at most about a tenth of the time is spent in it. */
const LOOK_PAUSE_FACTOR = 10;
/** Longer than a transaction that assigns builds takes: rows show up at their commit with the time before it. */
const OVERLAP_MS: number = 10 * SECOND;
/** Of builds that ended just when the evaluation did, or go on for others: last lines may be on the way. */
const LATE_LINES_MS: number = 3 * SECOND;
const SIGN_INTERVAL_MS: number = 15 * SECOND;
const STREAM_MS_MAX: number = 6 * HOUR;

/**
 * The logs of all builds of the evaluation, in whole lines with `name> ` before each: those of ended attempts first, in
 * the order in which the builds were found, then what comes, until the evaluation ends. Logs are read one after the
 * other, however many builds run. Null where nothing came for a while. Only members of the organization may follow.
 */
export async function followEvaluationLogs(
  deps: EvaluationLogDeps,
  actor: Actor,
  evaluationId: string,
  signal: AbortSignal,
): Promise<AsyncGenerator<string | null>> {
  requireUser(actor);
  await requireEvaluation(deps, actor, evaluationId, "member");
  return follow(deps, actor, evaluationId, signal);
}

async function* follow(
  deps: EvaluationLogDeps,
  actor: Actor,
  evaluationId: string,
  signal: AbortSignal,
): AsyncGenerator<string | null> {
  const startedAt = deps.clock.monotonic();
  const logs = new EvaluationLogs(deps, evaluationId);
  let silentSince = startedAt;
  let endedAt: number | null = null;
  for (;;) {
    const lookedAt = deps.clock.monotonic();
    // Asked before the logs are read: what builds of an ended evaluation wrote is there.
    const state = await stateOf(deps, actor, evaluationId);
    if (state === "hidden") return;
    if (state === "ended") endedAt ??= lookedAt;
    let seenAt = lookedAt;
    const final = endedAt !== null && lookedAt - endedAt >= LATE_LINES_MS;
    for await (const text of logs.next({ ended: endedAt !== null, final })) {
      if (signal.aborted) return;
      silentSince = deps.clock.monotonic();
      // One pass may last as long as its reader takes for it.
      if (silentSince - seenAt >= SIGN_INTERVAL_MS) {
        if ((await stateOf(deps, actor, evaluationId)) === "hidden") return;
        seenAt = silentSince;
      }
      yield text;
    }
    const now = deps.clock.monotonic();
    if (signal.aborted || now - startedAt > STREAM_MS_MAX) return;
    if (!logs.caughtUp) continue;
    if (endedAt !== null && (final || !logs.mayGrow)) return;
    if (now - silentSince >= SIGN_INTERVAL_MS) {
      silentSince = now;
      yield null;
    }
    await sleep(deps.clock, LOOK_INTERVAL_MS, signal);
  }
}

async function stateOf(deps: EvaluationLogDeps, actor: Actor, id: string): Promise<"active" | "ended" | "hidden"> {
  try {
    await requireStillSignedIn(deps, actor);
    const { status } = await requireEvaluation(deps, actor, id, "member");
    return (ACTIVE_EVALUATION as readonly number[]).includes(status) ? "active" : "ended";
  } catch (error) {
    if (error instanceof DomainError) return "hidden";
    throw error;
  }
}

/** A log that may grow. */
interface GrowingLog {
  readonly label: string;
  /** The first byte that was not given out. */
  position: number;
  /** How long it was when it was read last. */
  seen: number;
}

/** Goes through the links once, and from then on looks for new attempts and at the logs that may grow. */
class EvaluationLogs {
  readonly #deps: EvaluationLogDeps;
  readonly #evaluationId: string;
  readonly #growing = new Map<string, GrowingLog>();
  /** Attempts that were met since `#since`, so that none is read twice. */
  #met = new Set<string>();
  #since: Date | null = null;
  #lookAgainAt = 0;
  #after: string | null = null;
  #paging = true;

  constructor(deps: EvaluationLogDeps, evaluationId: string) {
    this.#deps = deps;
    this.#evaluationId = evaluationId;
  }

  /** All that there was at the beginning has been given out. */
  get caughtUp(): boolean {
    return !this.#paging;
  }

  get mayGrow(): boolean {
    return this.#growing.size > 0;
  }

  /** `ended`: no attempt begins any more. `final`: nor does anything come that belongs to the evaluation. */
  async *next({ ended, final }: { readonly ended: boolean; readonly final: boolean }): AsyncGenerator<string> {
    const { db } = this.#deps;
    if (this.#since === null) this.#since = await readDatabaseTime(db);
    if (this.#paging) {
      const page = await pageLoggedAttempts(db, this.#evaluationId, { after: this.#after, limit: BUILDS_A_PAGE });
      this.#after = page.next;
      this.#paging = page.next !== null;
      yield* this.#begin(page.attempts);
    } else if (ended || this.#deps.clock.monotonic() >= this.#lookAgainAt) {
      yield* this.#begin(await this.#newAttempts(this.#since));
    }
    yield* this.#grow(final && !this.#paging);
  }

  async #newAttempts(since: Date): Promise<LoggedAttempt[]> {
    const { db, clock } = this.#deps;
    const startedAt = clock.monotonic();
    const now = await readDatabaseTime(db);
    const rows = await listNewAttempts(db, this.#evaluationId, new Date(since.getTime() - OVERLAP_MS));
    this.#lookAgainAt = clock.monotonic() + (clock.monotonic() - startedAt) * LOOK_PAUSE_FACTOR;
    const fresh = rows.filter(({ id }) => !this.#met.has(id) && !this.#growing.has(id));
    this.#met = new Set(rows.map(({ id }) => id));
    this.#since = now;
    return fresh;
  }

  async *#begin(attempts: readonly LoggedAttempt[]): AsyncGenerator<string> {
    for (const { id, name, settled } of attempts) {
      this.#met.add(id);
      const log = { label: `${name}> `, position: 0, seen: 0 };
      if (settled) yield* this.#read(id, log, true);
      else this.#growing.set(id, log);
    }
  }

  async *#grow(final: boolean): AsyncGenerator<string> {
    if (this.#growing.size === 0) return;
    const lengths = await listLogLengths(this.#deps.db, [...this.#growing.keys()]);
    const left = new Map(lengths.map((length) => [length.id, length]));
    for (const [id, log] of this.#growing) {
      const length = left.get(id);
      const ends = final || length === undefined || length.settled;
      const grew = length !== undefined && length.bytes > log.seen;
      const isLeft = length !== undefined && length.bytes > log.position;
      log.seen = length?.bytes ?? log.seen;
      if (grew || (ends && isLeft)) yield* this.#read(id, log, ends);
      if (ends) this.#growing.delete(id);
    }
  }

  async *#read(attemptId: string, log: GrowingLog, final: boolean): AsyncGenerator<string> {
    const parts = readLogBytes(this.#deps, attemptId, { start: log.position });
    for await (const { text, position } of labelLines(parts, log.label, { final })) {
      log.position = position;
      yield text;
    }
  }
}
