import type { Kysely } from "kysely";
import { touchVerified } from "../db/nar-health.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";
import type { NarProofs } from "./nar-damage.ts";

/** Files that were read whole for somebody: the scrub need not read them again soon. */
export interface CollectedProofs extends NarProofs {
  /** Throws when the database cannot take them; they are forgotten then, and the scrub reads for itself. */
  flush(): Promise<void>;
}

/** About 2 MB. What comes when it is full is not remembered. */
const PROOFS_MAX = 10_000;
const CHUNK = 1_000;

export function createNarProofs({ db }: { readonly db: Kysely<Database> }): CollectedProofs {
  let proven = new Set<string>();
  return {
    proven({ objectKey }) {
      if (proven.size < PROOFS_MAX) proven.add(objectKey);
    },
    async flush() {
      const taken = proven;
      proven = new Set();
      for (const chunk of chunksOf([...taken], CHUNK)) await touchVerified(db, chunk);
    },
  };
}
