import type { ByteStream } from "../lib/streams.ts";
import { encodeBase32 } from "../nix/base32.ts";
import { type CacheLookupDeps, lookUpPath, type ServedCache } from "../services/cache-lookup.ts";
import type { NarListings } from "../services/nar-listings.ts";
import { readable } from "./byte-answer.ts";
import * as answer from "./cache-answers.ts";
import { acceptsCoding, isNotModified } from "./conditional.ts";

export interface CacheListingDeps extends CacheLookupDeps {
  readonly listings: Pick<NarListings, "find">;
}

/**
 * What is in a path, as JSON: `<hash>.ls`. Compressed with gzip, as it is kept, for clients who take that; the whole
 * of the text for others. 404 also for a listing that is larger than what is kept.
 */
export async function answerListing(
  deps: CacheListingDeps,
  { request, cache, hash }: { readonly request: Request; readonly cache: ServedCache; readonly hash: string },
): Promise<Response> {
  const path = await lookUpPath(deps, { cacheId: cache.id, hash });
  const listing = path && (await deps.listings.find(path.nar));
  if (!path || !listing || listing === "too_large") return answer.notFound();
  const compressed = acceptsCoding(request.headers, "gzip");
  // The listing follows from the NAR, and each coding of it has a name of its own.
  const etag = `"${encodeBase32(path.nar.narHash.digest)}-ls${compressed ? "-gzip" : ""}"`;
  const cacheControl = answer.shortCacheControl(cache);
  if (isNotModified(request.headers, etag)) return answer.notModified(etag, cacheControl, { vary: "accept-encoding" });
  const headers = {
    ...answer.USER_MADE,
    ...answer.FOR_ANY_PAGE,
    "content-type": "application/json",
    ...(compressed && { "content-encoding": "gzip" }),
    "content-length": String(compressed ? listing.gzipBytes : listing.textBytes),
    vary: "accept-encoding",
    etag,
    "cache-control": cacheControl,
  };
  if (request.method === "HEAD") return new Response(null, { headers });
  const body: ByteStream = compressed ? listing.gzip() : listing.text();
  return new Response(await readable(body), { headers });
}
