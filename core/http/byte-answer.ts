import { type BlockStream, isBlockStream, offerBody } from "../lib/block-stream.ts";
import { type ByteStream, toReadableStream } from "../lib/streams.ts";
import type { ByteRange } from "../ports/blob-store.ts";
import { notModified } from "./cache-answers.ts";
import { allowsRange, isNotModified } from "./conditional.ts";
import { contentRange, parseRange } from "./range.ts";

const WHOLE_BYTES_MAX = 256 * 1024;
/** What the runtime reads into memory of its own is faster than what is made for one answer. */
const FIRST_BYTES = 16 * 1024;

/** A body of a known size that can be opened anywhere. */
export interface ByteSource {
  readonly size: number;
  readonly etag: string;
  readonly cacheControl: string;
  /** Besides those of size, range and caching. */
  readonly headers: Readonly<Record<string, string>>;
  /** Whether a range of it is the same bytes tomorrow. */
  readonly resumable: boolean;
  /** All of it, where it is in memory; nothing is opened then. */
  readonly bytes?: Uint8Array | null;
  /** For HEAD. */
  isThere(): Promise<boolean>;
  /** Null, or `isLost` of what is thrown before the first byte: it is gone. */
  open(range: ByteRange | null): Promise<ByteStream | null>;
  isLost(error: unknown): boolean;
}

/** Answers GET and HEAD with conditions and ranges. Null when the body is gone. */
export async function answerBytes(request: Request, source: ByteSource): Promise<Response | null> {
  const { size, etag, cacheControl, resumable } = source;
  if (isNotModified(request.headers, etag)) return notModified(etag, cacheControl);
  // Without `Accept-Ranges` Nix gives up on a download that broke off.
  const headers = { ...source.headers, "accept-ranges": "bytes", etag, "cache-control": cacheControl };
  if (request.method === "HEAD") {
    if (!source.bytes && !(await source.isThere())) return null;
    return new Response(null, { headers: { ...headers, "content-length": String(size) } });
  }
  const mayResume = resumable && allowsRange(request.headers, etag);
  const range = mayResume ? parseRange(request.headers.get("range"), size) : null;
  if (range === "unsatisfiable") {
    return new Response(null, { status: 416, headers: { "content-range": contentRange(range, size) } });
  }
  const body = await opened(source, range);
  if (!body) return null;
  if (!range) return respond(body, { status: 200, headers: { ...headers, "content-length": String(size) } });
  const partHeaders = { "content-length": String(range.length), "content-range": contentRange(range, size) };
  return respond(body, { status: 206, headers: { ...headers, ...partHeaders } });
}

type OpenedBody =
  | Uint8Array<ArrayBuffer>
  | ReadableStream<Uint8Array>
  | { readonly first: Uint8Array; readonly rest: BlockStream | null };

function respond(
  body: OpenedBody,
  head: { readonly status: number; readonly headers: Record<string, string> },
): Response {
  if (!("rest" in body)) return new Response(body, head);
  const { first, rest } = body;
  const stream = rest ? continued({ done: false, value: first }, rest[Symbol.asyncIterator]()) : copyOf(first);
  return offerBody(new Response(toReadableStream(stream), head), { ...head, first, rest });
}

/** What is sent may be taken over by its receiver. */
async function* copyOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes.slice();
}

async function opened(source: ByteSource, range: ByteRange | null): Promise<OpenedBody | null> {
  const { bytes } = source;
  if (bytes) return range ? bytes.slice(range.start, range.start + range.length) : { first: bytes, rest: null };
  try {
    const body = await source.open(range);
    if (!body) return null;
    if (isBlockStream(body)) return await readFirst(body, range?.length ?? source.size);
    return await readable(body);
  } catch (error) {
    if (source.isLost(error)) return null;
    throw error;
  }
}

/** A body of up to one block is read whole, and so it is proven; of a larger one as much as shows that it can be. */
async function readFirst(body: BlockStream, size: number): Promise<OpenedBody> {
  const block = new Uint8Array(size <= WHOLE_BYTES_MAX ? size : FIRST_BYTES);
  let length = 0;
  while (length < block.length) {
    const read = await body.readInto(block.subarray(length));
    if (read === 0) break;
    length += read;
  }
  return { first: block.subarray(0, length), rest: body };
}

/**
 * Reads up to the first chunk that may be given out, so that what is found by then is an answer of its own and not a
 * broken body; and the source is open, so that cancelling the stream closes it.
 */
export async function readable(source: ByteStream): Promise<ReadableStream<Uint8Array>> {
  const iterator = source[Symbol.asyncIterator]();
  return toReadableStream(continued(await iterator.next(), iterator));
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
