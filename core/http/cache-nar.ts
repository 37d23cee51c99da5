import { type Bytes, equalBytes } from "../lib/bytes.ts";
import { encodeBase32 } from "../nix/base32.ts";
import { type CacheLookupDeps, lookUpNar, type ServedCache } from "../services/cache-lookup.ts";
import { isNarStored, NarDamagedError, type NarOpenDeps, openNar, openNarRange } from "../services/nar-open.ts";
import { answerBytes } from "./byte-answer.ts";
import * as answer from "./cache-answers.ts";
import type { CacheRelay } from "./cache-relay.ts";
import { answerElsewhere, type NarElsewhere } from "./nar-elsewhere.ts";

export interface CacheNarDeps extends CacheLookupDeps, NarOpenDeps {
  readonly relay?: CacheRelay;
  readonly elsewhere?: NarElsewhere;
}

export interface NarRequest {
  readonly request: Request;
  readonly cache: ServedCache;
  readonly fileHash: Bytes;
}

/**
 * A NAR file. The whole of it is proven while it streams: a body that is not what was stored is cut before its last
 * chunk (and answered 404 when it is of one chunk), and 404 from then on. A range is served as it is stored: nothing
 * short of the whole can be proven, and whoever puts parts together checks the NAR's hash.
 */
export async function answerNar(deps: CacheNarDeps, { request, cache, fileHash }: NarRequest): Promise<Response> {
  const nar = await lookUpNar(deps, { cacheId: cache.id, fileHash });
  if (!nar) return (await deps.relay?.nar(cache, { fileHash }, request)) ?? answer.notFound();
  // Under a name from before the NAR was stored anew the bytes are others: neither for ever nor to be resumed.
  const named = equalBytes(fileHash, nar.fileHash.digest);
  const etag = `"${encodeBase32(nar.fileHash.digest)}"`;
  const cacheControl = named ? answer.immutableCacheControl(cache) : answer.shortCacheControl(cache);
  const headers = { "content-type": "application/x-nix-nar" };
  const elsewhere = { nar, headers: { ...headers, etag, "cache-control": cacheControl } };
  // What has other bytes than its name says must not be resumed, which nobody else would know.
  const sentElsewhere = named ? await answerElsewhere(deps, request, elsewhere) : null;
  if (sentElsewhere) return sentElsewhere;
  const response = await answerBytes(request, {
    size: nar.fileSize,
    etag,
    cacheControl,
    headers,
    resumable: named,
    isThere: () => isNarStored(deps, nar),
    open: (range) => (range ? openNarRange(deps, nar, range) : openNar(deps, nar)),
    isLost: (error) => error instanceof NarDamagedError,
  });
  return response ?? answer.notFound();
}
