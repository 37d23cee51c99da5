import { type Bytes, concatBytes } from "./bytes.ts";

/**
 * A body that is read once, in order, and whose consumer sets the pace. A producer that fails throws from `next()`;
 * a consumer that stops early calls `return()` (as `for await` does on `break`) and the producer lets go of its source.
 */
export type ByteStream = AsyncIterable<Uint8Array>;

/** More bytes arrived than the caller allows. */
export class LimitExceededError extends Error {
  override readonly name = "LimitExceededError";
}

/** Reads a whole body into memory; throws `LimitExceededError` as soon as it is larger than `maxBytes`. */
export async function collect(stream: ByteStream, maxBytes: number): Promise<Bytes> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of stream) {
    length += part.length;
    if (length > maxBytes) throw new LimitExceededError(`more than ${maxBytes} bytes`);
    parts.push(part);
  }
  return concatBytes(parts);
}

/** A body of at most `maxBytes` in memory; a larger one as it was, from its beginning. */
export async function readAhead(
  stream: ByteStream,
  maxBytes: number,
): Promise<{ readonly whole: Bytes } | { readonly rest: ByteStream }> {
  const iterator = stream[Symbol.asyncIterator]();
  const parts: Uint8Array[] = [];
  let length = 0;
  while (length <= maxBytes) {
    const { done, value } = await iterator.next();
    if (done) return { whole: concatBytes(parts) };
    parts.push(value);
    length += value.length;
  }
  return { rest: resumed(parts, iterator) };
}

/** The first `byteCount` bytes, or all that there are, and the whole body from its beginning. */
export async function peek(
  stream: ByteStream,
  byteCount: number,
): Promise<{ readonly start: Bytes; readonly body: ByteStream }> {
  const iterator = stream[Symbol.asyncIterator]();
  const parts: Uint8Array[] = [];
  let length = 0;
  while (length < byteCount) {
    const { done, value } = await iterator.next();
    if (done) break;
    parts.push(value);
    length += value.length;
  }
  return { start: concatBytes(parts).slice(0, byteCount), body: resumed(parts, iterator) };
}

async function* resumed(parts: readonly Uint8Array[], iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  let finished = false;
  try {
    yield* parts;
    for (let { done, value } = await iterator.next(); !done; { done, value } = await iterator.next()) yield value;
    finished = true;
  } finally {
    if (!finished) await iterator.return?.();
  }
}

export async function* streamOf(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

/**
 * `transform` of a body, for transforms that never end when their source throws while they are at work: they are shown
 * an end instead, and what the body threw comes in the place of whatever they make of that.
 */
export async function* shownAnEnd(
  body: ByteStream,
  transform: (body: ByteStream) => ByteStream,
): AsyncGenerator<Uint8Array> {
  const source: { failure: { readonly error: unknown } | null } = { failure: null };
  async function* ended(): AsyncGenerator<Uint8Array> {
    try {
      yield* body;
    } catch (error) {
      source.failure = { error };
    }
  }
  try {
    yield* transform(ended());
  } catch (error) {
    throw source.failure ? source.failure.error : error;
  }
  if (source.failure) throw source.failure.error;
}

/**
 * Adapts to what `Response` takes. Cancelling the stream ends the iterable; an error of the iterable errors the
 * stream.
 */
export function toReadableStream(stream: ByteStream): ReadableStream<Uint8Array> {
  const iterator = stream[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Adapts a request's body. Stopping early cancels the stream. */
export async function* fromReadableStream(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let finished = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield value;
    }
    finished = true;
  } finally {
    if (!finished) await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}
