import { DAY, SECOND } from "../lib/clock.ts";

/** A host's clock that is this far behind was set wrong: what it says is no late word. */
const LATE_MS_MAX: number = 7 * DAY;
/** What waited at the host comes at once: by the host's clock its run took longer than its reports did to come. */
const QUEUED_MS_MIN: number = 2 * SECOND;
/** By so much may the end of a run that comes as it happens be held up on its way. */
const DELAY_MS_MAX: number = 60 * SECOND;

/** What is known of the host by its newest report. */
export interface ReportedHost {
  readonly runId: string | null;
  readonly sequence: number;
  /** Milliseconds; never later than the report came. */
  readonly seenAt: number | null;
  readonly runningPath: string | null;
  readonly healthySince: Date | null;
  readonly runningSince: Date | null;
}

/** What is known of the run that a report belongs to; null when nothing is. */
export interface RunView {
  readonly sequence: number;
  readonly sequences: readonly number[];
  /** When it began, by the host's clock, in milliseconds. */
  readonly beganAt: number;
  /** When its first report came, in milliseconds. */
  readonly firstCameAt: number;
}

export interface ReportPlace {
  readonly runId: string;
  readonly sequence: number;
  /** Milliseconds. */
  readonly happenedAt: number;
  /** Milliseconds. */
  readonly cameAt: number;
  /** The run is over with it. */
  readonly isEnd: boolean;
  /** It found nothing to do: of such a run there is no other report. */
  readonly isAlone: boolean;
  readonly isUnhealthy: boolean;
}

/**
 * - `known`: it came before, and changes nothing.
 * - `late`: something newer is known of the host: it only completes the run's history.
 * - `newest`: the host is as it says.
 */
export type ReportStanding = "known" | "late" | "newest";

/**
 * Reports of one run are ordered by their sequence, runs by their first reports. A first report that came late is told
 * by the host's own clock, unless that jumped. A clock that was set back makes a whole run look late: its end is
 * believed nevertheless when it comes as it happens, and not from a queue.
 *
 * Of what stands alone no other report tells whether it comes as it happens. A host sends in order what has waited, so
 * only one that was sent twice comes after what is newer, and soon after: what seems older than that is of a clock that
 * was set back. And who says that it is ill is believed in any case: a wave that waits in vain does less harm.
 */
export function reportStanding(host: ReportedHost, run: RunView | null, report: ReportPlace): ReportStanding {
  const { runId, sequence, happenedAt, isAlone, isUnhealthy } = report;
  if (run?.sequences.includes(sequence)) return "known";
  if (host.runId === runId) {
    if (sequence > host.sequence) return "newest";
    // Of a run without a history nothing is late.
    return run === null ? "known" : "late";
  }
  if (run !== null) return endsLive(host, run, report) ? "newest" : "late";
  if (isAlone && isUnhealthy) return "newest";
  const lateMs = (host.seenAt ?? happenedAt) - happenedAt;
  return lateMs > 0 && lateMs < (isAlone ? DELAY_MS_MAX : LATE_MS_MAX) ? "late" : "newest";
}

/** Whether the report ends its run at this moment, though something else was taken for newer when the run began. */
function endsLive(host: ReportedHost, run: RunView, { sequence, happenedAt, cameAt, isEnd }: ReportPlace): boolean {
  if (!isEnd || sequence < run.sequence) return false;
  // The clock was put right meanwhile.
  if (host.seenAt !== null && happenedAt > host.seenAt) return true;
  const laterMs = cameAt - run.firstCameAt - (happenedAt - run.beganAt);
  return laterMs > -QUEUED_MS_MIN && laterMs < DELAY_MS_MAX;
}

export interface Condition {
  readonly runningPath: string | null;
  readonly health: "unknown" | "healthy" | "unhealthy";
}

/** Since when the host has been healthy on the system that it runs; null while it is not, or does not say. */
export function healthySince(before: ReportedHost, { runningPath, health }: Condition, now: Date): Date | null {
  const isSame = runningPath === null || runningPath === before.runningPath;
  if (health === "unhealthy") return null;
  if (health === "unknown") return isSame ? before.healthySince : null;
  return (isSame ? before.healthySince : null) ?? now;
}

/** Systems to go back to, the newest first: those that ran before, but for the one that runs now. */
export function rollbackPaths(
  known: readonly string[],
  { before, now, max }: { readonly before: string | null; readonly now: string | null; readonly max: number },
): string[] {
  const candidates = before === null || before === now ? known : [before, ...known];
  return [...new Set(candidates)].filter((path) => path !== now).slice(0, max);
}
