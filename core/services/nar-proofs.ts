import type { Kysely } from "kysely";
import { touchVerified } from "../db/nar-health.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";
import { type Clock, HOUR } from "../lib/clock.ts";
import type { NarProofs } from "./nar-damage.ts";

/** Files that were read whole for somebody: the scrub need not read them again soon. */
export interface CollectedProofs extends NarProofs {
  /** Throws when the database cannot take them; they are forgotten then, and the scrub reads for itself. */
  flush(): Promise<void>;
}

/** About 2 MB. What comes when it is full is not remembered. */
const PROOFS_MAX = 10_000;
/** About 4 MB. The oldest go first. */
const STANDING_MAX = 10_000;
/** A sector that rots changes no file's times: for so long a file that nobody wrote to counts as it was read. */
const STANDING_MS = HOUR;
const CHUNK = 1_000;

export function createNarProofs({
  db,
  clock,
}: {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
}): CollectedProofs {
  let proven = new Set<string>();
  /** By object key, the oldest first. */
  const standing = new Map<string, { readonly imprint: string; readonly until: number }>();
  return {
    proven({ objectKey }, imprint) {
      if (proven.size < PROOFS_MAX) proven.add(objectKey);
      if (imprint === undefined) return;
      standing.delete(objectKey);
      standing.set(objectKey, { imprint, until: clock.monotonic() + STANDING_MS });
      for (const oldest of standing.keys()) {
        if (standing.size <= STANDING_MAX) break;
        standing.delete(oldest);
      }
    },
    stands({ objectKey }, imprint) {
      const proof = standing.get(objectKey);
      return proof?.imprint === imprint && proof.until > clock.monotonic();
    },
    async flush() {
      const taken = proven;
      proven = new Set();
      for (const chunk of chunksOf([...taken], CHUNK)) await touchVerified(db, chunk);
    },
  };
}
