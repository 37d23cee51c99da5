import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import { listReadableUpstreams } from "../db/upstreams.ts";
import type { Clock } from "../lib/clock.ts";
import { parsePublicKey } from "../nix/signature.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { Upstream } from "./upstream-probe.ts";

export interface UpstreamDirectoryDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly notifier: Notifier;
}

/** What a lost wake-up costs. */
const REMEMBERED_MS = 5_000;
/** All upstreams of an instance are held in memory: some kilobytes each. */
const UPSTREAMS_MAX = 10_000;

/** Which upstreams caches have. Looking it up costs no query while it is remembered. */
export class UpstreamDirectory {
  readonly #deps: UpstreamDirectoryDeps;
  #known: { readonly byCache: Promise<ReadonlyMap<string, readonly Upstream[]>>; readonly until: number } | null = null;

  constructor(deps: UpstreamDirectoryDeps) {
    this.#deps = deps;
    // A subject that ends with the slash speaks of the cache itself.
    deps.notifier.subscribe("path", (subject) => {
      if (subject.endsWith("/")) this.#known = null;
    });
  }

  /** In the order of the caches, each cache's oldest first. One that several caches share comes once. */
  async upstreamsOf(cacheIds: readonly string[]): Promise<Upstream[]> {
    const byCache = await this.#load();
    const distinct = new Map<string, Upstream>();
    for (const upstream of cacheIds.flatMap((id) => byCache.get(id) ?? [])) {
      const identity = JSON.stringify([upstream.url, upstream.keys.map(({ name, bytes }) => [name, ...bytes])]);
      if (!distinct.has(identity)) distinct.set(identity, upstream);
    }
    return [...distinct.values()];
  }

  async #load(): Promise<ReadonlyMap<string, readonly Upstream[]>> {
    const { clock, db } = this.#deps;
    if (this.#known && clock.monotonic() < this.#known.until) return await this.#known.byCache;
    const byCache = readDirectory(db);
    const known = { byCache, until: clock.monotonic() + REMEMBERED_MS };
    this.#known = known;
    byCache.catch(() => {
      if (this.#known === known) this.#known = null;
    });
    return await byCache;
  }
}

async function readDirectory(db: Kysely<Database>): Promise<ReadonlyMap<string, readonly Upstream[]>> {
  const rows = await listReadableUpstreams(db, UPSTREAMS_MAX);
  const upstreams = rows.map(({ id, cache_id, url, public_keys }) => {
    const keys = public_keys.flatMap((key) => parsePublicKey(key) ?? []);
    return { id, cacheId: cache_id, url, keys };
  });
  return Map.groupBy(upstreams, ({ cacheId }) => cacheId);
}
