import type { Kysely } from "kysely";
import { touchPaths } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";
import { type Clock, MINUTE } from "../lib/clock.ts";
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
   * minutes, unless `counts` wants all of it now. Throws when the database cannot take them; they are kept then.
   */
  flush(options?: { readonly counts: boolean }): Promise<void>;
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
const CHUNK = 1_000;

export function createPathUses({
  db,
  clock,
  log,
}: {
  readonly db: Kysely<Database>;
  readonly clock: Pick<Clock, "monotonic">;
  readonly log: Logger;
}): PathUses {
  let used = new Map<string, Use>();
  let flushing: Promise<void> | null = null;

  async function write(counts: boolean): Promise<void> {
    const taken = used;
    used = new Map();
    const nowMs = clock.monotonic();
    const crowdedMs = sinceOfTheOldest([...taken.values()], taken.size - KEPT_MAX);
    const dueMs = counts ? nowMs : Math.max(nowMs - KEPT_MS, crowdedMs);
    try {
      // In one order, so that two servers never wait for each other in a ring.
      for (const chunk of chunksOf([...taken].toSorted(bySubject), CHUNK)) {
        const uses = chunk.map(([subject, { count, sinceMs }]) => {
          const [cacheId = "", hash = ""] = subject.split("/");
          return { cacheId, hash, count, isDue: sinceMs <= dueMs };
        });
        const kept = await touchPaths(db, uses);
        const isKept = new Set(kept.map(({ cache_id, hash }) => `${cache_id}/${hash}`));
        for (const [subject] of chunk) if (!isKept.has(subject)) taken.delete(subject);
      }
    } finally {
      for (const [subject, use] of taken) keep(subject, use);
    }
  }

  function keep(subject: string, use: Use): void {
    const since = used.get(subject);
    if (used.size < USES_MAX || since) used.set(subject, { ...use, count: use.count + (since?.count ?? 0) });
  }

  function flush(counts: boolean): Promise<void> {
    flushing ??= write(counts).finally(() => {
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
        flush(false).catch((error: unknown) => log.warn("uses of cached paths could not be recorded", { error }));
        if (used.size >= USES_MAX) return;
      }
      used.set(subject, { count: 1, sinceMs: clock.monotonic() });
    },
    async flush({ counts } = { counts: false }) {
      // One that runs already may have missed what was touched since it began.
      if (flushing) await flushing;
      await flush(counts);
    },
  };
}

/** Since when the `count` oldest of them are known; before all time when there are none. */
function sinceOfTheOldest(uses: readonly Use[], count: number): number {
  const since = uses.map(({ sinceMs }) => sinceMs).toSorted((a, b) => a - b);
  return since[count - 1] ?? Number.NEGATIVE_INFINITY;
}

function bySubject([a]: readonly [string, Use], [b]: readonly [string, Use]): number {
  return a < b ? -1 : 1;
}
