import type { Kysely } from "kysely";
import { addMetricCounts } from "../db/metric-counts.ts";
import type { Database } from "../db/schema.ts";

/** What caches have sent of NARs, gathered in memory so that sending one writes nothing. */
export interface NarTraffic {
  /** `bytes`: of the answer's body, also where a proxy or the storage sends it in our place. */
  sent(bytes: number): void;
  /** Throws when the database cannot take it; it is kept then. */
  flush(): Promise<void>;
}

export function createNarTraffic({ db }: { readonly db: Kysely<Database> }): NarTraffic {
  let requests = 0;
  let total = 0;
  return {
    sent(bytes) {
      requests++;
      total += bytes;
    },
    async flush() {
      if (requests === 0) return;
      const taken = { requests, total };
      requests = 0;
      total = 0;
      try {
        await addMetricCounts(db, [
          { name: "nar.requests", value: taken.requests },
          { name: "nar.bytes", value: taken.total },
        ]);
      } catch (error) {
        requests += taken.requests;
        total += taken.total;
        throw error;
      }
    },
  };
}
