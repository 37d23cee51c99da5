/** What Node's zstd decoder is, as far as it matters here. */
export interface ZstdDecoder extends AsyncIterable<Uint8Array> {
  /** Of the input, what was used. */
  readonly bytesWritten: number;
  write(chunk: Uint8Array, done: Done): unknown;
  end(): unknown;
  destroy(error?: Error): unknown;
}

/** What Node's zstd encoder is, as far as it matters here. */
interface ZstdEncoder {
  readonly writableEnded: boolean;
  readonly writableLength: number;
  _transform(chunk: Uint8Array, encoding: string, done: Done): void;
  _flush(done: Done): void;
}

type Done = (error?: Error | null) => void;

/**
 * The content of a zstd file, which is one or more frames (RFC 8878 section 3). Node's decoder stops where a frame ends
 * within a chunk and drops the rest of the chunk: that goes to another decoder. What follows and is no frame fails.
 */
export async function* decodeFrames(
  body: AsyncIterable<Uint8Array>,
  open: () => ZstdDecoder,
): AsyncGenerator<Uint8Array> {
  const chunks = body[Symbol.asyncIterator]();
  let next = await chunks.next();
  try {
    do {
      const decoder = open();
      const feeding = feed(decoder, next, chunks);
      try {
        for await (const chunk of decoder) yield chunk;
      } finally {
        decoder.destroy();
      }
      next = await feeding;
    } while (!next.done);
  } finally {
    await chunks.return?.();
  }
}

/** Resolves with what the decoder did not take. It never rejects: the decoder's reader gets the error. */
async function feed(
  decoder: ZstdDecoder,
  first: IteratorResult<Uint8Array>,
  chunks: AsyncIterator<Uint8Array>,
): Promise<IteratorResult<Uint8Array>> {
  let next = first;
  try {
    for (; !next.done; next = await chunks.next()) {
      const before = decoder.bytesWritten;
      await written(decoder, next.value);
      const used = decoder.bytesWritten - before;
      if (used < next.value.length) return { done: false, value: next.value.subarray(used) };
    }
    decoder.end();
  } catch (error) {
    decoder.destroy(error as Error);
  }
  return next;
}

function written(decoder: ZstdDecoder, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    decoder.write(chunk, (error) => (error ? reject(error) : resolve()));
  });
}

/**
 * Node's encoder ends the frame with the last chunk where it knows by then that it is the last, and once more at the
 * end of the stream, which makes an empty frame; changed by this it ends the frame once. So the same bytes become the
 * same file whenever they come.
 */
export function writeOneFrame<T>(encoder: T & ZstdEncoder): T {
  const compress = encoder._transform.bind(encoder);
  const flush = encoder._flush.bind(encoder);
  let ended = false;
  encoder._transform = (chunk, encoding, done) => {
    ended = encoder.writableEnded && encoder.writableLength === chunk.length;
    compress(chunk, encoding, done);
  };
  encoder._flush = (done) => (ended ? done() : flush(done));
  return encoder;
}
