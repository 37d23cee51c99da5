import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import { listReadableUpstreams, type ReadableUpstream, UpstreamKind } from "../db/upstreams.ts";
import { fromUtf8, toBase64, utf8 } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import { parsePublicKey } from "../nix/signature.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { SecretBox } from "./secret-box.ts";
import type { RemoteUpstream, Upstream } from "./upstream.ts";

export interface UpstreamDirectoryDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly notifier: Notifier;
  readonly log: Logger;
  /** Opens the keys of private upstreams. */
  readonly secrets: Pick<SecretBox, "open">;
}

/** What a lost wake-up costs. */
const REMEMBERED_MS = 5_000;
/** All upstreams of an instance are held in memory: some kilobytes each. */
const UPSTREAMS_MAX = 10_000;

/** Where an upstream's API key lies sealed. */
export function apiKeyPlace(upstreamId: string): {
  readonly table: string;
  readonly column: string;
  readonly id: string;
} {
  return { table: "cache_upstream", column: "api_key", id: upstreamId };
}

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
    deps.notifier.subscribe("missed", () => {
      this.#known = null;
    });
  }

  /** In the order of the caches, each cache's oldest first. One that several caches share comes once. */
  async upstreamsOf(cacheIds: readonly string[]): Promise<Upstream[]> {
    const byCache = await this.#load();
    const distinct = new Map<string, Upstream>();
    for (const upstream of cacheIds.flatMap((id) => byCache.get(id) ?? [])) {
      const identity = identityOf(upstream);
      // A cache that is read anyway is no upstream besides.
      if (upstream.sourceId !== null && cacheIds.includes(upstream.sourceId)) continue;
      if (!distinct.has(identity)) distinct.set(identity, upstream);
    }
    return [...distinct.values()];
  }

  async #load(): Promise<ReadonlyMap<string, readonly Upstream[]>> {
    const { clock } = this.#deps;
    if (this.#known && clock.monotonic() < this.#known.until) return await this.#known.byCache;
    const byCache = readDirectory(this.#deps);
    const known = { byCache, until: clock.monotonic() + REMEMBERED_MS };
    this.#known = known;
    byCache.catch(() => {
      if (this.#known === known) this.#known = null;
    });
    return await byCache;
  }
}

function identityOf(upstream: Upstream): string {
  if (upstream.sourceId !== null) return upstream.sourceId;
  const { url, keys, authorization } = upstream;
  return JSON.stringify([url, authorization, keys.map(({ name, bytes }) => [name, ...bytes])]);
}

async function readDirectory(deps: UpstreamDirectoryDeps): Promise<ReadonlyMap<string, readonly Upstream[]>> {
  const rows = await listReadableUpstreams(deps.db, UPSTREAMS_MAX);
  const upstreams = await Promise.all(rows.map((row) => upstreamOf(deps, row)));
  return Map.groupBy(
    upstreams.filter((upstream) => upstream !== null),
    ({ cacheId }) => cacheId,
  );
}

async function upstreamOf(deps: UpstreamDirectoryDeps, row: ReadableUpstream): Promise<Upstream | null> {
  const { id, cache_id: cacheId } = row;
  if (row.upstream_cache_id !== null) return { id, cacheId, url: row.display_name, sourceId: row.upstream_cache_id };
  if (row.url === null) return null;
  const keys = row.public_keys.flatMap((key) => parsePublicKey(key) ?? []);
  const plain: RemoteUpstream = {
    id,
    cacheId,
    url: surfaceUrl(row, row.url),
    keys,
    authorization: null,
    sourceId: null,
  };
  if (row.api_key === null) return plain;
  try {
    // The cache surface of every Gradient takes the key as a password, as a netrc file gives it.
    const apiKey = fromUtf8(await deps.secrets.open(apiKeyPlace(id), row.api_key));
    return { ...plain, authorization: `Basic ${toBase64(utf8(`gradient:${apiKey}`))}` };
  } catch (error) {
    deps.log.error("the API key of an upstream cannot be opened: it is not asked", { upstream: plain.url, error });
    return null;
  }
}

/** What of another Gradient answers Nix clients. */
function surfaceUrl({ kind, remote_cache: cache }: ReadableUpstream, url: string): string {
  return kind === UpstreamKind.Gradient ? `${url}/cache/${cache}` : url;
}
