import type { Kysely } from "kysely";
import { deleteOldCacheHistory, noteCacheSizes } from "../db/cache-history.ts";
import { listCacheUsage } from "../db/cache-usage.ts";
import type { Database } from "../db/schema.ts";
import { chunksOf } from "../lib/chunks.ts";

const CACHES_MAX = 500;
/** Of `note`. */
const CALLS_BETWEEN_DELETIONS = 60;

/** Keeps the history of what caches hold: a cache in which nothing changes costs nothing. */
export class CacheSizes {
  readonly #db: Kysely<Database>;
  /** What was noted last, by cache. */
  #noted = new Map<string, string>();
  #calls = 0;

  constructor(db: Kysely<Database>) {
    this.#db = db;
  }

  /** To be called once a minute, by each server: they note the same. */
  async note(): Promise<void> {
    const held = new Map(
      (await listCacheUsage(this.#db)).map(({ cache_id, paths, bytes }) => [cache_id, `${paths} ${bytes}`]),
    );
    const changed = [...held.keys()].filter((id) => held.get(id) !== this.#noted.get(id));
    for (const cacheIds of chunksOf(changed, CACHES_MAX)) await noteCacheSizes(this.#db, cacheIds);
    this.#noted = held;
    if (this.#calls++ % CALLS_BETWEEN_DELETIONS === 0) await deleteOldCacheHistory(this.#db);
  }
}
