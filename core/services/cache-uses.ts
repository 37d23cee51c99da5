import type { Kysely } from "kysely";
import { touchPaths } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";
import { type Clock, MINUTE, SECOND, sleep } from "../lib/clock.ts";
import type { Logger } from "../ports/logger.ts";

/**
 * Which paths were asked for, gathered in memory so that serving one writes nothing. Retention counts on it: every
 * server flushes before a sweep and from time to time, and a crash loses what was gathered since.
 */
export interface PathUses {
  /** `cache id/hash`. */
  touch(subject: string): void;
  /**
   * Each path's last use is known then to ten minutes. How often it was used is written along, of some only after ten
   * minutes. Throws when the database cannot take them; they are kept then. It takes its time, so that nobody waits
   * behind it for the database.
   */
  flush(options?: FlushOptions): Promise<void>;
}

export interface FlushOptions {
  /** Every count is written now, without pauses. */
  readonly counts?: boolean;
  /** It pauses no more when this is aborted. */
  readonly hurry?: AbortSignal;
}

/** Of one path since it was last written down. */
interface Use {
  count: number;
  sinceMs: number;
}

/** About 20 MB. When it is full it is flushed at once. */
const USES_MAX = 100_000;
/** More than these are not kept for their counts, the oldest go: there has to be room for what comes. */
const KEPT_MAX: number = USES_MAX / 2;
const KEPT_MS: number = 10 * MINUTE;
const CHUNK = 200;
/** After each chunk it pauses for as long as the chunk took, times this. */
const PAUSES = 4;
/** With more than these it does not pause: what comes meanwhile needs room. */
const PAUSED_MAX: number = (KEPT_MAX + USES_MAX) / 2;
/** Nor after so long: a sweep may wait for it, and the next one begins a minute after this one. */
const PAUSED_MS_MAX: number = 30 * SECOND;

export function createPathUses({
  db,
  clock,
  log,
}: {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly log: Logger;
}): PathUses {
  let used = new Map<string, Use>();
  let flushing: Promise<void> | null = null;

  async function write({ counts, hurry }: FlushOptions): Promise<void> {
    const taken = used;
    used = new Map();
    const nowMs = clock.monotonic();
    const dueMs = counts ? nowMs : Math.max(nowMs - KEPT_MS, crowdedSince(taken));
    const pausedUntilMs = counts ? nowMs : nowMs + PAUSED_MS_MAX;
    try {
      for (const chunk of chunksOf(taken, CHUNK)) {
        const startedMs = clock.monotonic();
        await writeChunk(chunk, dueMs);
        for (const [subject] of chunk) taken.delete(subject);
        const endedMs = clock.monotonic();
        const mayPause = taken.size > 0 && used.size < PAUSED_MAX && endedMs < pausedUntilMs;
        if (mayPause) await sleep(clock, PAUSES * (endedMs - startedMs), hurry);
      }
    } finally {
      for (const [subject, use] of taken) keep(subject, use);
    }
  }

  /** Keeps those that were not due. */
  async function writeChunk(chunk: readonly (readonly [subject: string, use: Use])[], dueMs: number): Promise<void> {
    // In one order, so that two servers never wait for each other in a ring.
    const uses = chunk.toSorted(bySubject).map(([subject, { count, sinceMs }]) => {
      const [cacheId = "", hash = ""] = subject.split("/");
      return { cacheId, hash, count, isDue: sinceMs <= dueMs };
    });
    const kept = await touchPaths(db, uses);
    const isKept = new Set(kept.map(({ cache_id, hash }) => `${cache_id}/${hash}`));
    for (const [subject, use] of chunk) if (isKept.has(subject)) keep(subject, use);
  }

  function keep(subject: string, use: Use): void {
    const since = used.get(subject);
    if (since) use.count += since.count;
    if (since || used.size < USES_MAX) used.set(subject, use);
  }

  function flush(options: FlushOptions): Promise<void> {
    flushing ??= write(options).finally(() => {
      flushing = null;
    });
    return flushing;
  }

  return {
    touch(subject) {
      const use = used.get(subject);
      if (use) {
        use.count++;
        return;
      }
      if (used.size >= USES_MAX) {
        flush({}).catch((error: unknown) => log.warn("uses of cached paths could not be recorded", { error }));
        if (used.size >= USES_MAX) return;
      }
      used.set(subject, { count: 1, sinceMs: clock.monotonic() });
    },
    async flush(options = {}) {
      // One that runs already may have missed what was touched since it began.
      if (flushing) await flushing;
      await flush(options);
    },
  };
}

/** Since when the oldest are known that are more than are kept; before all time when there are none. */
function crowdedSince(uses: ReadonlyMap<string, Use>): number {
  const count = uses.size - KEPT_MAX;
  if (count <= 0) return Number.NEGATIVE_INFINITY;
  const since = Float64Array.from(uses.values(), ({ sinceMs }) => sinceMs).sort();
  return since[count - 1] as number;
}

function bySubject([a]: readonly [string, Use], [b]: readonly [string, Use]): number {
  return a < b ? -1 : 1;
}
