import type { BlobStore, ObjectLocation } from "../ports/blob-store.ts";
import type { ServedCache } from "../services/cache-lookup.ts";
import type { Nar } from "../services/nar.ts";
import * as answer from "./cache-answers.ts";
import { isNotModified } from "./conditional.ts";
import { printSentNar } from "./sent-nar.ts";

/** Who else may send NAR files; without it we send all of them. */
export interface NarElsewhere {
  /** Clients follow URLs to the storage. */
  readonly redirected: boolean;
  /** An internal location of the nginx before us, between slashes, that is the storage folder. */
  readonly proxyPath: string | null;
  /** Where files are being moved to: what was in its place a moment ago need not be. */
  readonly movingTo?: string | null;
  /** The proxy tells what it has sent: that it was told of a place counts as nothing, and it may remember more. */
  readonly proxyCounts?: boolean;
}

/** nginx is told in its own configuration to say this of itself: whoever reaches us past it gets the bytes. */
export const PROXY_HEADER = "x-sendfile-type";
const PROXY_VALUE = "X-Accel-Redirect";
/** Names the file that it sends. */
const PLACE_HEADER = "x-accel-redirect";
/** It asks, by the NAR's URL or its narinfo's, for nothing but the file's place, which it may remember for others. */
export const PLACE_ONLY = "X-Accel-Redirect-Only";
/** It asks for a narinfo, and for the NAR's place with it. */
export const PLACE_ALSO = "X-Accel-Redirect-Also";
/** With a place: the name of the NAR file that lies there. */
const NAME_HEADER = "x-gradient-nar";
/** With a place: `Cache-Control` of the file. */
const CACHE_CONTROL_HEADER = "x-gradient-nar-cache-control";
/** With a place: what the proxy logs when it sends the file. */
const LOG_HEADER = "x-gradient-nar-log";
/** A client follows at once; the rest is for clocks that differ. Whoever resumes asks us again. */
const URL_LIFETIME_MS = 300_000;

/** Whether the request is one whose NAR somebody else may send. */
export function mayBeElsewhere({ elsewhere }: { readonly elsewhere?: NarElsewhere }, request: Request): boolean {
  return elsewhere !== undefined && (elsewhere.redirected || isBehindProxy(elsewhere, request));
}

function isBehindProxy({ proxyPath }: NarElsewhere, { headers }: Request): boolean {
  return proxyPath !== null && headers.get(PROXY_HEADER) === PROXY_VALUE;
}

/**
 * Lets somebody else send the file, after it was decided that this client may have it: ranges too, though not anything
 * under a condition that is met by what the client has. Null when we must answer ourselves, also what is wrong with the
 * object.
 */
export async function answerElsewhere(
  { blobs, elsewhere }: { readonly blobs: BlobStore; readonly elsewhere?: NarElsewhere },
  request: Request,
  {
    nar,
    headers,
  }: { readonly nar: Nar; readonly headers: Readonly<Record<string, string>> & { readonly etag: string } },
): Promise<Response | null> {
  if (!elsewhere || !blobs.locate || request.method !== "GET") return null;
  if (!mayBeElsewhere({ elsewhere }, request) || isNotModified(request.headers, headers.etag)) return null;
  const location = await blobs.locate(nar.objectKey, URL_LIFETIME_MS);
  if (location?.size !== nar.fileSize) return null;
  return answerAt(location, elsewhere, { isBehindProxy: isBehindProxy(elsewhere, request), headers });
}

/** Where the proxy before us finds the file. Null where we must answer ourselves, as for `answerElsewhere`. */
export async function pathForProxy(
  { blobs, elsewhere }: { readonly blobs: BlobStore; readonly elsewhere?: NarElsewhere },
  nar: Nar,
): Promise<string | null> {
  const path = elsewhere?.proxyPath;
  const location = path ? await blobs.locate?.(nar.objectKey, URL_LIFETIME_MS) : null;
  if (!path || !location || "url" in location || location.size !== nar.fileSize) return null;
  return path + location.path;
}

/** What a proxy needs to send a file without us, now and for as long as it may remember it. */
export function placeHeaders(
  cache: ServedCache,
  { name, path, nar }: { readonly name: string; readonly path: string; readonly nar: Nar },
): Record<string, string> {
  return {
    [PLACE_HEADER]: path,
    [NAME_HEADER]: name,
    [CACHE_CONTROL_HEADER]: answer.immutableCacheControl(cache),
    [LOG_HEADER]: printSentNar({ cacheId: cache.id, bytes: nar.fileSize }),
  };
}

function answerAt(
  location: ObjectLocation,
  { redirected, proxyPath }: NarElsewhere,
  { isBehindProxy, headers }: { readonly isBehindProxy: boolean; readonly headers: Readonly<Record<string, string>> },
): Response | null {
  if ("url" in location) {
    if (!redirected) return null;
    // The URL is a right that ends, and is nobody else's.
    return new Response(null, {
      status: 307,
      headers: { location: location.url, "cache-control": "private, no-store" },
    });
  }
  if (!isBehindProxy || proxyPath === null) return null;
  return new Response(null, { headers: { ...headers, [PLACE_HEADER]: proxyPath + location.path } });
}
