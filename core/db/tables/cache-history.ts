import type { Generated } from "kysely";

/** One row a span of time in which something was sent or has changed. */
export interface CacheHistoryTable {
  cache_id: string;
  /** 0: minutes, 1: hours, 2: days, 3: weeks from Monday, all in UTC. */
  granularity: number;
  bucket_start: Date;
  /** NARs that were sent. */
  requests: Generated<number>;
  /** Of these. */
  bytes: Generated<number>;
  /** At the end of the span; null: nobody has looked. */
  packages: number | null;
  stored_bytes: number | null;
}
