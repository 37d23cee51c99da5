import type { Kysely } from "kysely";
import { touchPaths } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";
import { type Clock, MINUTE, SECOND, sleep } from "../lib/clock.ts";
import type { Logger } from "../ports/logger.ts";

/**
 * Which paths were asked for, gathered in memory so that serving one writes nothing. Retention counts on it: every
 * server flushes before a sweep and from time to time, and a crash loses what was gathered since; one of the database
 * also what was written in the moment before, unless something later was waited for.
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
/** A millisecond of PostgreSQL's time, which everybody waits for who shares a processor with it. */
const PACED_CHUNK = 25;
/** Without pauses: fewer turns, since each may have a way to go. */
const CHUNK = 200;
/** After each paced chunk it pauses for as long as the chunk took, times this. */
const PAUSE_FACTOR = 4;
/** However long the database took: something else may have held it up. */
const PAUSE_MS_MAX: number = SECOND;
/** After so long it pauses no more: a sweep may wait for it, and the next flush begins a minute after this one. */
const PAUSED_MS_MAX: number = 30 * SECOND;
/** With so many that came meanwhile neither: they need room. */
const CROWDED: number = (KEPT_MAX + USES_MAX) / 2;

interface PathUsesDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly log: Logger;
}

export function createPathUses(deps: PathUsesDeps): PathUses {
  return new GatheredUses(deps);
}

class GatheredUses implements PathUses {
  readonly #deps: PathUsesDeps;
  #used = new Map<string, Use>();
  #running: { readonly ended: Promise<void>; readonly hurry: AbortController } | null = null;

  constructor(deps: PathUsesDeps) {
    this.#deps = deps;
  }

  touch(subject: string): void {
    const { clock, log } = this.#deps;
    const use = this.#used.get(subject);
    if (use) {
      use.count++;
      return;
    }
    if (this.#used.size >= CROWDED) this.#hurryOn();
    if (this.#used.size >= USES_MAX) {
      if (this.#running) return;
      this.#begin(false).catch((error: unknown) => log.warn("uses of cached paths could not be recorded", { error }));
    }
    this.#used.set(subject, { count: 1, sinceMs: clock.monotonic() });
  }

  async flush({ counts = false, hurry }: FlushOptions = {}): Promise<void> {
    const hurryOn = () => this.#hurryOn();
    hurry?.addEventListener("abort", hurryOn);
    const isHurried = () => counts || hurry?.aborted === true;
    try {
      if (isHurried()) hurryOn();
      // One that runs already may have missed what was touched since it began. Whoever began it hears how it ended.
      await this.#running?.ended.catch(() => {});
      // Nor does another's write every count.
      while (counts && this.#running) await this.#running.ended.catch(() => {});
      const ended = this.#running?.ended ?? this.#begin(counts);
      if (isHurried()) hurryOn();
      await ended;
    } finally {
      hurry?.removeEventListener("abort", hurryOn);
    }
  }

  #hurryOn(): void {
    this.#running?.hurry.abort();
  }

  #begin(counts: boolean): Promise<void> {
    const hurry = new AbortController();
    const ended = this.#write(counts, hurry.signal).finally(() => {
      this.#running = null;
    });
    this.#running = { ended, hurry };
    return ended;
  }

  async #write(counts: boolean, hurry: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const taken = this.#used;
    this.#used = new Map();
    const nowMs = clock.monotonic();
    const dueMs = counts ? nowMs : Math.max(nowMs - KEPT_MS, crowdedSince(taken));
    const isPaced = () => !hurry.aborted && clock.monotonic() - nowMs < PAUSED_MS_MAX;
    try {
      for (const chunk of chunksOf(taken, () => (isPaced() ? PACED_CHUNK : CHUNK))) {
        const startedMs = clock.monotonic();
        await this.#writeChunk(chunk, dueMs);
        for (const [subject] of chunk) taken.delete(subject);
        const pauseMs = Math.min(PAUSE_FACTOR * (clock.monotonic() - startedMs), PAUSE_MS_MAX);
        if (taken.size > 0 && isPaced()) await sleep(clock, pauseMs, hurry);
      }
    } finally {
      for (const [subject, use] of taken) this.#keep(subject, use);
    }
  }

  /** Keeps those that were not due. */
  async #writeChunk(chunk: readonly (readonly [subject: string, use: Use])[], dueMs: number): Promise<void> {
    // In one order, so that two servers never wait for each other in a ring.
    const uses = chunk.toSorted(bySubject).map(([subject, { count, sinceMs }]) => {
      const [cacheId = "", hash = ""] = subject.split("/");
      return { cacheId, hash, count, isDue: sinceMs <= dueMs };
    });
    const kept = await touchPaths(this.#deps.db, uses);
    const isKept = new Set(kept.map(({ cache_id, hash }) => `${cache_id}/${hash}`));
    for (const [subject, use] of chunk) if (isKept.has(subject)) this.#keep(subject, use);
  }

  #keep(subject: string, use: Use): void {
    const since = this.#used.get(subject);
    if (since) use.count += since.count;
    if (since || this.#used.size < USES_MAX) this.#used.set(subject, use);
  }
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
