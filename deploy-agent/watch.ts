import { MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import { randomFraction } from "#core/lib/ids.ts";
import type { Context } from "./context.ts";
import type { Wanted, Wishes } from "./decide.ts";
import { ENDS, type End } from "./ends.ts";
import { type Seen, ServerError } from "./ports.ts";
import { type RunEnd, runOnce, runResume } from "./run.ts";

const BACKOFF_FIRST_MS = SECOND;
const BACKOFF_MAX_MS = 5 * MINUTE;
/** Between two questions that do not wait, while the server takes none that does: at least that, at most twice that. */
const POLL_MS = 30 * SECOND;
/**
 * So many refusals of the key, some six minutes, end the process: the service manager hands the next one the key that
 * is there then.
 */
const REJECTIONS_MAX = 10;
/** The server's word is asked for again that often even when nothing is new: for windows, releases and lost reports. */
const LOOK_AGAIN_MS = 10 * MINUTE;

/** Runs while the lock is held; null: somebody else holds it. */
export type WithContext = (work: (context: Context) => Promise<RunEnd>) => Promise<RunEnd | null>;

export interface WatchOptions extends Pick<Context, "clock" | "random" | "narrator" | "server" | "signal"> {
  readonly waitSeconds: number;
  readonly wishes: Wishes;
  readonly withContext: WithContext;
}

/** After these a new agent may be on the host: the service manager starts it. */
const MAY_CHANGE_HOST: ReadonlySet<End> = new Set([
  "deployed",
  "will-boot",
  "rebooting",
  "rolled-back",
  "unhealthy",
  "failed",
]);

/**
 * Ends what was left, looks at once, then waits at the server for news. The lock is taken for the work alone, so that
 * other commands run meanwhile. Ends when the host was changed, when the server goes on refusing the key, or with the
 * signal.
 */
export async function watch(options: WatchOptions): Promise<RunEnd> {
  const { clock, signal, narrator, withContext, wishes } = options;
  // What was left is put right also where the server is away.
  const left = await withContext(runResume);
  if (left && hasChangedHost(left)) return left;
  let seen: Seen | null = null;
  let lookedAt = Number.NEGATIVE_INFINITY;
  let isShown = false;
  const patience = new Patience(options);
  while (!signal.aborted) {
    const waits: boolean = seen !== null && patience.mayWait;
    let wanted: Wanted;
    try {
      wanted = await ask(options, waits ? seen : null);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (signal.aborted) break;
      const pauseMs = patience.failed(error);
      if (pauseMs === null) return { end: error.end, reason: error.message, failedUnits: [], wanted: null };
      await sleep(clock, pauseMs, signal);
      continue;
    }
    const pauseMs = patience.answered(waits);
    const isNew = wanted.state !== seen?.state || (wanted.build?.buildId ?? null) !== seen.buildId;
    const isLate = clock.monotonic() - lookedAt >= LOOK_AGAIN_MS;
    if (!isNew && !isLate) {
      await sleep(clock, pauseMs, signal);
      continue;
    }
    // What was shown once is not shown again, but reports may be left to send.
    const ended = await withContext((context) =>
      isShown && !isNew ? runResume(context) : runOnce(context, wishes, { wanted, tellUnchanged: true }),
    );
    if (ended === null) {
      await sleep(clock, BACKOFF_FIRST_MS * 5, signal);
      continue;
    }
    lookedAt = clock.monotonic();
    seen = { buildId: wanted.build?.buildId ?? null, state: wanted.state };
    if (hasChangedHost(ended)) return ended;
    if (isNew) isShown = ended.end === "dry-activated" || ended.end === "dry-activate-failed";
    narrator.info(`${ended.end}: ${ended.reason ?? ENDS[ended.end].description}`);
    await sleep(clock, pauseMs, signal);
  }
  return { end: "interrupted", reason: "the agent was asked to end", failedUnits: [], wanted: null };
}

/** A system that waits for its boot already is no change. */
function hasChangedHost({ end, isUnchanged }: RunEnd): boolean {
  return MAY_CHANGE_HOST.has(end) && isUnchanged !== true;
}

function ask({ server, waitSeconds, signal }: WatchOptions, seen: Seen | null): Promise<Wanted> {
  return seen ? server.wanted({ seen, waitSeconds, signal }) : server.wanted();
}

/** How often a server is asked that fails, refuses, or has too many who wait. */
class Patience {
  readonly #options: Pick<WatchOptions, "clock" | "random" | "narrator">;
  #failures = 0;
  #rejections = 0;
  /** Null: questions may wait. */
  #waitsAgainAt: number | null = null;
  #mustPoll = false;
  #answeredAt = Number.NEGATIVE_INFINITY;

  constructor(options: Pick<WatchOptions, "clock" | "random" | "narrator">) {
    this.#options = options;
  }

  /** Whether the next question may wait at the server for news. */
  get mayWait(): boolean {
    if (this.#waitsAgainAt === null) return true;
    return !this.#mustPoll && this.#options.clock.monotonic() >= this.#waitsAgainAt;
  }

  /** Milliseconds until the next question; null: the key was refused too often. */
  failed({ end, status, message }: ServerError): number | null {
    const { clock, narrator } = this.#options;
    if (this.#failures++ === 0) narrator.warn(message);
    if (end === "unauthorized" || end === "not-found") this.#rejections++;
    else this.#rejections = 0;
    // What this process was given to ask with is of no use: the next one may have better.
    if (end === "key-file" || end === "settings") return null;
    if (this.#rejections >= REJECTIONS_MAX) return null;
    const pauseMs = this.#backoffMs();
    // A server that has too many who wait answers those who do not.
    if (status === 429 || status === 503) {
      this.#waitsAgainAt = clock.monotonic() + pauseMs;
      this.#mustPoll = true;
    }
    return pauseMs;
  }

  /**
   * Milliseconds until the next question where nothing is new. That a question was answered which did not wait does not
   * say that the server is well: only one that waited does.
   */
  answered(waited: boolean): number {
    const { clock } = this.#options;
    const sinceLastMs = clock.monotonic() - this.#answeredAt;
    this.#answeredAt = clock.monotonic();
    this.#rejections = 0;
    this.#mustPoll = false;
    if (waited) this.#waitsAgainAt = null;
    if (this.#waitsAgainAt !== null) return this.#jittered(POLL_MS * 2);
    this.#failures = 0;
    // An answer that did not wait for news must not be asked for again and again.
    return waited && sinceLastMs < 2 * BACKOFF_FIRST_MS ? BACKOFF_FIRST_MS : 0;
  }

  /** Twice as long each time. */
  #backoffMs(): number {
    return this.#jittered(Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(this.#failures - 1, 20)));
  }

  /** Half of it at least: not all hosts at once. */
  #jittered(wholeMs: number): number {
    return wholeMs / 2 + (randomFraction(this.#options.random) * wholeMs) / 2;
  }
}
