import type { Kysely } from "kysely";
import { addCacheTraffic } from "../db/cache-history.ts";
import { addMetricCounts } from "../db/metric-counts.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";

/** What is more in the end stays at it: a database holds it, with what is added in a minute. */
const SUM_MAX = Number.MAX_SAFE_INTEGER;
/** A proxy's log names them, and may name any. */
const CACHES_MAX = 100_000;

/** What caches have sent of NARs, gathered in memory so that sending one writes nothing. */
export interface NarTraffic {
  /** `bytes`: of the answer's body, also where a proxy or the storage sends it in our place. */
  sent(cacheId: string, bytes: number): void;
  /** Throws when the database cannot take it; it is kept then. */
  flush(): Promise<void>;
}

export function createNarTraffic({ db }: { readonly db: Kysely<Database> }): NarTraffic {
  let gathered = new Map<string, Sent>();

  function add(cacheId: string, { requests, bytes }: Sent): void {
    const sent = gathered.get(cacheId);
    if (!sent && gathered.size < CACHES_MAX) gathered.set(cacheId, { requests, bytes });
    if (sent) {
      sent.requests += requests;
      sent.bytes = Math.min(sent.bytes + bytes, SUM_MAX);
    }
  }

  return {
    sent: (cacheId, bytes) => add(cacheId, { requests: 1, bytes }),
    async flush() {
      if (gathered.size === 0) return;
      const taken = gathered;
      gathered = new Map();
      const sent = Array.from(taken, ([cacheId, counts]) => ({ cache_id: cacheId, ...counts }));
      const sum = (name: keyof Sent) => sent.reduce((total, counts) => Math.min(total + counts[name], SUM_MAX), 0);
      try {
        await inTransaction(db, async (trx) => {
          await addMetricCounts(trx, [
            { name: "nar.requests", value: sum("requests") },
            { name: "nar.bytes", value: sum("bytes") },
          ]);
          await addCacheTraffic(trx, sent);
        });
      } catch (error) {
        for (const [cacheId, counts] of taken) add(cacheId, counts);
        throw error;
      }
    },
  };
}

interface Sent {
  requests: number;
  bytes: number;
}
