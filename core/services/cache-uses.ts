import type { Kysely } from "kysely";
import { touchPaths } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";
import type { Logger } from "../ports/logger.ts";

/**
 * Which paths were asked for, gathered in memory so that serving one writes nothing. Retention counts on it: every
 * server flushes before a sweep and from time to time, and a crash loses what was gathered since.
 */
export interface PathUses {
  /** `cache id/hash`. */
  touch(subject: string): void;
  /** Throws when the database cannot take them; they are kept then. */
  flush(): Promise<void>;
}

/** About 10 MB. When it is full it is flushed at once. */
const USES_MAX = 100_000;
const CHUNK = 1_000;

export function createPathUses({ db, log }: { readonly db: Kysely<Database>; readonly log: Logger }): PathUses {
  let used = new Set<string>();
  let flushing: Promise<void> | null = null;

  async function write(): Promise<void> {
    const taken = used;
    used = new Set();
    try {
      // In one order, so that two servers never wait for each other in a ring.
      for (const chunk of chunksOf([...taken].sort(), CHUNK)) {
        const pairs = chunk.map((subject) => subject.split("/"));
        await touchPaths(db, {
          cacheIds: pairs.map((pair) => pair[0] as string),
          hashes: pairs.map((pair) => pair[1] as string),
        });
      }
    } catch (error) {
      for (const subject of taken) if (used.size < USES_MAX) used.add(subject);
      throw error;
    }
  }

  function flush(): Promise<void> {
    flushing ??= write().finally(() => {
      flushing = null;
    });
    return flushing;
  }

  return {
    touch(subject) {
      if (used.size >= USES_MAX && !used.has(subject)) {
        flush().catch((error: unknown) => log.warn("uses of cached paths could not be recorded", { error }));
        if (used.size >= USES_MAX) return;
      }
      used.add(subject);
    },
    async flush() {
      // One that runs already may have missed what was touched since it began.
      if (flushing) await flushing;
      await flush();
    },
  };
}
