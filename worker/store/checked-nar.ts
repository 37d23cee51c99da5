import { createHash } from "node:crypto";
import type { ByteStream } from "#core/lib/streams.ts";
import { NarParseError, validateNar } from "#core/nix/nar-reader.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import { decompress } from "../codec.ts";
import type { FetchedNar } from "../link.ts";

/** The bytes are not those of the path: they will be the same when they are fetched again. */
export class CorruptNarError extends Error {
  override readonly name = "CorruptNarError";
  readonly path: StorePath;

  constructor(path: StorePath, reason: string, options?: ErrorOptions) {
    super(reason, options);
    this.path = path;
  }
}

/** The bytes ended early for a reason that lies with the connection or the sender. */
export class FetchInterruptedError extends Error {
  override readonly name = "FetchInterruptedError";
}

/**
 * The NAR itself. Its last bytes are held back until size and hash of the whole were right, since a daemon may register
 * a path as soon as it has seen the end: `CorruptNarError` comes in their place, or `FetchInterruptedError` when the
 * body failed.
 */
export async function* checkedNar({ info, compression, body }: FetchedNar): AsyncGenerator<Uint8Array> {
  const corrupt = (reason: string, options?: ErrorOptions) => new CorruptNarError(info.path, reason, options);
  const source = new WatchedBody(body, info);
  const nar = decompress(compression, source);
  if (!nar) {
    await discardBody(body);
    throw corrupt(`it is compressed as ${compression}, which this worker cannot read`);
  }
  const hash = createHash("sha256");
  let size = 0;
  let held: Uint8Array | null = null;
  try {
    // The daemon of Nix 2.8 takes folders whose entries are out of order: not one NAR a tree any more.
    for await (const chunk of validateNar(nar)) {
      if (chunk.length === 0) continue;
      size += chunk.length;
      if (size > info.nar_size) throw corrupt(`it is longer than the ${info.nar_size} bytes it should have`);
      hash.update(chunk);
      if (held) yield held;
      held = chunk;
    }
  } catch (error) {
    // What a decoder makes of a broken connection is "truncated": the cause is what counts.
    if (source.failure) throw source.failure;
    if (error instanceof CorruptNarError) throw error;
    if (error instanceof NarParseError) throw corrupt(`it is no NAR: ${error.message}`, { cause: error });
    throw corrupt(`it cannot be read as ${compression}: ${(error as Error).message}`, { cause: error });
  }
  if (size < info.nar_size) throw corrupt(`it ends after ${size} of ${info.nar_size} bytes`);
  if (hash.digest("hex") !== info.nar_hash) throw corrupt("its bytes do not have the hash they should have");
  if (held) yield held;
}

/** Lets go of a body that is not read. */
export async function discardBody(body: ByteStream): Promise<void> {
  await body[Symbol.asyncIterator]().return?.();
}

/** Remembers that the body failed. */
class WatchedBody implements AsyncIterable<Uint8Array> {
  readonly #body: ByteStream;
  readonly #info: PathInfoField;
  failure: FetchInterruptedError | null = null;

  constructor(body: ByteStream, info: PathInfoField) {
    this.#body = body;
    this.#info = info;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const iterator = this.#body[Symbol.asyncIterator]();
    let finished = false;
    try {
      for (;;) {
        const { done, value } = await this.#next(iterator);
        if (done) break;
        yield value;
      }
      finished = true;
    } finally {
      if (!finished && !this.failure) await iterator.return?.();
    }
  }

  async #next(iterator: AsyncIterator<Uint8Array>): Promise<IteratorResult<Uint8Array>> {
    try {
      return await iterator.next();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.failure = new FetchInterruptedError(`fetching ${this.#info.path} was interrupted: ${reason}`, {
        cause: error,
      });
      throw this.failure;
    }
  }
}
