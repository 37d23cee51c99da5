import type { Kysely } from "kysely";
import { listOrigins } from "../../db/ready-builds.ts";
import type { Database } from "../../db/schema.ts";

/** Some megabytes. What is forgotten is read again. */
const ENTRIES_MAX = 20_000;
/** Workers that are remembered to have an input: which of more of them is chosen makes no difference. */
const HOLDERS_MAX = 32;

/** A build's outputs: where they are, and how large. */
export interface InputOrigin {
  /** Workers that made them, or were given them as an input. */
  readonly holders: readonly string[];
  /** By output: the size of its NAR, where a cache of the organization has it. */
  readonly bytes: Readonly<Record<string, number>>;
}

/** Lists and not sets: there are thousands, nearly all of one or two names. */
interface Entry extends InputOrigin {
  readonly holders: string[];
}

/**
 * Which workers have which inputs in their stores, as far as this server read it or had a part in it lately: many
 * builds need the same few. It is a hint for scores: a store may have lost something since, and nothing depends on it.
 */
export class InputOrigins {
  readonly #known = new Map<string, Entry>();

  async of(db: Kysely<Database>, buildIds: readonly string[]): Promise<ReadonlyMap<string, InputOrigin>> {
    const found = new Map<string, Entry>();
    const missing: string[] = [];
    for (const id of new Set(buildIds)) {
      const entry = this.#known.get(id);
      if (entry) found.set(id, entry);
      else missing.push(id);
    }
    for (const { id, worker, bytes } of await listOrigins(db, missing)) {
      const entry = { holders: worker === null ? [] : [worker], bytes };
      found.set(id, entry);
      this.#remember(id, entry);
    }
    return found;
  }

  /** The worker has been given a build that needs these. */
  gave(buildIds: readonly string[], workerId: string): void {
    for (const id of buildIds) {
      const holders = this.#known.get(id)?.holders;
      if (holders && holders.length < HOLDERS_MAX && !holders.includes(workerId)) holders.push(workerId);
    }
  }

  /** The first in is the first out. */
  #remember(id: string, entry: Entry): void {
    this.#known.set(id, entry);
    if (this.#known.size <= ENTRIES_MAX) return;
    const { value: oldest } = this.#known.keys().next();
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}
