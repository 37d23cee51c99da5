import { MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import { randomFraction } from "#core/lib/ids.ts";
import type { Context } from "./context.ts";
import type { Wanted, Wishes } from "./decide.ts";
import { ENDS, type End } from "./ends.ts";
import { type Seen, ServerError } from "./ports.ts";
import { type RunEnd, runOnce, runResume } from "./run.ts";

const BACKOFF_FIRST_MS = SECOND;
const BACKOFF_MAX_MS = 5 * MINUTE;
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
const CHANGES_HOST: ReadonlySet<End> = new Set([
  "deployed",
  "will-boot",
  "rebooting",
  "rolled-back",
  "unhealthy",
  "failed",
]);

/**
 * Ends what was left, looks at once, then waits at the server for news. The lock is taken for the work alone, so that
 * other commands run meanwhile. Ends when the host was changed, or with the signal.
 */
export async function watch(options: WatchOptions): Promise<RunEnd> {
  const { clock, signal, narrator, withContext, wishes } = options;
  // What was left is put right also where the server is away.
  const left = await withContext(runResume);
  if (left && CHANGES_HOST.has(left.end)) return left;
  let seen: Seen | null = null;
  let lookedAt = Number.NEGATIVE_INFINITY;
  let failures = 0;
  while (!signal.aborted) {
    let wanted: Wanted;
    try {
      wanted = await ask(options, seen);
      failures = 0;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (signal.aborted) break;
      if (failures++ === 0) narrator.warn(error.message);
      // A server that has too many who wait answers those who do not.
      seen = error.status === 429 || error.status === 503 ? null : seen;
      await sleep(clock, backoffMs(options, failures), signal);
      continue;
    }
    const isNew = wanted.state !== seen?.state || (wanted.build?.buildId ?? null) !== seen.buildId;
    const isLate = clock.monotonic() - lookedAt >= LOOK_AGAIN_MS;
    if (!isNew && !isLate) continue;
    const ended = await withContext((context) => runOnce(context, wishes, { wanted, tellUnchanged: true }));
    if (ended === null) {
      await sleep(clock, BACKOFF_FIRST_MS * 5, signal);
      continue;
    }
    lookedAt = clock.monotonic();
    seen = { buildId: wanted.build?.buildId ?? null, state: wanted.state };
    if (CHANGES_HOST.has(ended.end)) return ended;
    narrator.info(`${ended.end}: ${ended.reason ?? ENDS[ended.end].description}`);
  }
  return { end: "interrupted", reason: "the agent was asked to end", failedUnits: [], wanted: null };
}

function ask({ server, waitSeconds, signal }: WatchOptions, seen: Seen | null): Promise<Wanted> {
  return seen ? server.wanted({ seen, waitSeconds, signal }) : server.wanted();
}

/** Twice as long each time, and not all hosts at once. */
function backoffMs({ random }: WatchOptions, failures: number): number {
  const whole = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures - 1, 20));
  return whole / 2 + (randomFraction(random) * whole) / 2;
}
