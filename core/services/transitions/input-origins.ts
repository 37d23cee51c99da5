import type { Kysely } from "kysely";
import { type BuildOrigin, listOrigins } from "../../db/ready-builds.ts";
import type { Database } from "../../db/schema.ts";

/** A few megabytes. What is forgotten is read again. */
const ENTRIES_MAX = 20_000;

/**
 * Where inputs were made, as far as it was read lately: many builds need the same few. What it says is a hint for
 * scores: it may be old, and nothing depends on it.
 */
export class InputOrigins {
  readonly #known = new Map<string, BuildOrigin>();

  async of(db: Kysely<Database>, buildIds: readonly string[]): Promise<ReadonlyMap<string, BuildOrigin>> {
    const wanted = [...new Set(buildIds)];
    const found = new Map<string, BuildOrigin>();
    for (const id of wanted) {
      const origin = this.#known.get(id);
      if (origin) found.set(id, origin);
    }
    const missing = wanted.filter((id) => !found.has(id));
    for (const origin of await listOrigins(db, missing)) {
      found.set(origin.id, origin);
      this.#remember(origin);
    }
    return found;
  }

  /** The first in is the first out. */
  #remember(origin: BuildOrigin): void {
    this.#known.set(origin.id, origin);
    if (this.#known.size <= ENTRIES_MAX) return;
    const { value: oldest } = this.#known.keys().next();
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}
