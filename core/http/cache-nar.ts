import { type Bytes, equalBytes } from "../lib/bytes.ts";
import { type ByteStream, toReadableStream } from "../lib/streams.ts";
import { encodeBase32 } from "../nix/base32.ts";
import type { ByteRange } from "../ports/blob-store.ts";
import { type CacheLookupDeps, lookUpNar, type ServedCache } from "../services/cache-lookup.ts";
import type { Nar } from "../services/nar.ts";
import { isNarStored, NarDamagedError, type NarOpenDeps, openNar, openNarRange } from "../services/nar-open.ts";
import * as answer from "./cache-answers.ts";
import { allowsRange, isNotModified } from "./conditional.ts";
import { contentRange, parseRange } from "./range.ts";

export interface CacheNarDeps extends CacheLookupDeps, NarOpenDeps {}

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
  if (!nar) return answer.notFound();
  // Under a name from before the NAR was stored anew the bytes are others: neither for ever nor to be resumed.
  const named = equalBytes(fileHash, nar.fileHash.digest);
  const etag = `"${encodeBase32(nar.fileHash.digest)}"`;
  const cacheControl = named ? answer.immutableCacheControl(cache) : answer.shortCacheControl(cache);
  if (isNotModified(request.headers, etag)) return answer.notModified(etag, cacheControl);

  const headers = {
    "content-type": "application/x-nix-nar",
    // Without it Nix gives up on a download that broke off.
    "accept-ranges": "bytes",
    etag,
    "cache-control": cacheControl,
  };
  if (request.method === "HEAD") {
    if (!(await isNarStored(deps, nar))) return answer.notFound();
    return new Response(null, { headers: { ...headers, "content-length": String(nar.fileSize) } });
  }
  const mayResume = named && allowsRange(request.headers, etag);
  const range = mayResume ? parseRange(request.headers.get("range"), nar.fileSize) : null;
  if (range === "unsatisfiable") {
    return new Response(null, { status: 416, headers: { "content-range": contentRange(range, nar.fileSize) } });
  }
  const body = await firstRead(deps, nar, range);
  if (!body) return answer.notFound();
  if (!range) return new Response(body, { headers: { ...headers, "content-length": String(nar.fileSize) } });
  return new Response(body, {
    status: 206,
    headers: {
      ...headers,
      "content-length": String(range.length),
      "content-range": contentRange(range, nar.fileSize),
    },
  });
}

/**
 * Reads up to the first chunk that may be given out, so that what is found by then is a 404 and not a broken body; and
 * the source is open, so that cancelling the stream closes it.
 */
async function firstRead(
  deps: CacheNarDeps,
  nar: Nar,
  range: ByteRange | null,
): Promise<ReadableStream<Uint8Array> | null> {
  const source = range ? await openNarRange(deps, nar, range) : await openNar(deps, nar);
  if (!source) return null;
  const iterator = source[Symbol.asyncIterator]();
  try {
    const first = await iterator.next();
    return toReadableStream(continued(first, iterator));
  } catch (error) {
    if (error instanceof NarDamagedError) return null;
    throw error;
  }
}

function continued(first: IteratorResult<Uint8Array>, rest: AsyncIterator<Uint8Array>): ByteStream {
  let read: IteratorResult<Uint8Array> | null = first;
  const iterator: AsyncIterator<Uint8Array> = {
    next() {
      const result = read;
      read = null;
      return result ? Promise.resolve(result) : rest.next();
    },
    return: async () => (await rest.return?.()) ?? { done: true, value: undefined },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
