import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import { addUpstreamCounts, type UpstreamCounts } from "../db/upstream-metrics.ts";
import { type Clock, MINUTE } from "../lib/clock.ts";
import type { Logger } from "../ports/logger.ts";

export interface UpstreamCountDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly log: Logger;
}

type Counts = { -readonly [Name in keyof UpstreamCounts]: UpstreamCounts[Name] };

const FLUSH_MS = MINUTE;

/**
 * How upstreams answer, gathered in memory and written once a minute while there is something to write. A server that
 * ends loses the last minute: nothing is decided by it.
 */
export class UpstreamCounter {
  readonly #deps: UpstreamCountDeps;
  #counts = new Map<string, Counts>();
  #flushesAt: number;

  constructor(deps: UpstreamCountDeps) {
    this.#deps = deps;
    this.#flushesAt = deps.clock.monotonic() + FLUSH_MS;
  }

  /** One request that was answered, or failed, after `latencyMs`. */
  count(upstreamId: string, answer: "hits" | "misses" | "failures", latencyMs: number): void {
    const counts = this.#counts.get(upstreamId) ?? {
      upstream_id: upstreamId,
      requests: 0,
      latency_ms: 0,
      hits: 0,
      misses: 0,
      failures: 0,
    };
    counts.requests++;
    counts.latency_ms += Math.round(latencyMs);
    counts[answer]++;
    this.#counts.set(upstreamId, counts);
    if (this.#deps.clock.monotonic() >= this.#flushesAt) void this.flush();
  }

  /** Never throws: what could not be written is lost. */
  async flush(): Promise<void> {
    const { clock, db, log } = this.#deps;
    this.#flushesAt = clock.monotonic() + FLUSH_MS;
    const counts = [...this.#counts.values()];
    this.#counts = new Map();
    if (counts.length === 0) return;
    await addUpstreamCounts(db, counts).catch((error: unknown) => {
      log.warn("how upstreams answered was not recorded", { error });
    });
  }
}
