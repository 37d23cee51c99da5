import { DomainError } from "../errors.ts";
import { assert } from "../lib/assert.ts";
import { type Bytes, concatBytes } from "../lib/bytes.ts";
import { type ByteStream, streamOf } from "../lib/streams.ts";
import type { Hash } from "../nix/hash.ts";
import { NarParseError } from "../nix/nar-reader.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Hasher, IncrementalHash } from "../ports/hasher.ts";
import { refused, requireDigest } from "./nar-check.ts";
import { isNarStart, START_BYTES } from "./nar-compression.ts";
import { UnreadBytesError, watched } from "./nar-tee.ts";

export interface NarFormDeps {
  readonly codec: Codec;
  readonly hasher: Hasher;
}

export interface IncomingNar {
  readonly compression: Compression;
  readonly body: ByteStream;
  /** Of the file as it comes, where the sender said it. */
  readonly fileHash?: Hash;
  /** Passes the unpacked NAR on, and throws before its end when it is not right. */
  readonly check: (nar: ByteStream) => ByteStream;
}

/** Level 9 makes files 8 % smaller than this and takes four times as long; workers send zstd and never come here. */
const ZSTD_LEVEL = 3;

export interface FileForm {
  /**
   * Throws before its end unless everything about the NAR is right: `DomainError` (`unprocessable_entity`,
   * `unsupported_media_type`), or what the sender's side threw.
   */
  readonly body: ByteStream;
  /** To be asked for once the body has ended. */
  facts(): { readonly hash: Bytes; readonly size: number };
}

/** The file to store, read once: a zstd file stays as it came, anything else becomes zstd. */
export function storedForm(deps: NarFormDeps, incoming: IncomingNar): FileForm {
  const measure = new Measure(deps.hasher);
  return { body: formOf(deps, incoming, measure), facts: () => measure.facts() };
}

/** A file that is whole in memory, and right. */
export function wholeForm({ hasher }: NarFormDeps, file: Uint8Array): FileForm {
  const measure = new Measure(hasher);
  return { body: measure.through(streamOf(file)), facts: () => measure.facts() };
}

async function* formOf(deps: NarFormDeps, incoming: IncomingNar, measure: Measure): AsyncGenerator<Uint8Array> {
  const { compression, fileHash } = incoming;
  const source = new Source(incoming.body);
  try {
    if (compression === "zstd") {
      // What comes is what is stored: one hash is enough.
      const file = measure.through(source, fileHash);
      yield* watched(file, (copy) => drain(unpacked(deps, incoming, copy)));
    } else {
      const file = fileHash ? new Measure(deps.hasher).through(source, fileHash) : source;
      yield* measure.through(deps.codec.compressZstd(unpacked(deps, incoming, file), { level: ZSTD_LEVEL }));
    }
  } catch (error) {
    // The sender's own failure comes out of a decoder as "truncated": tell the one that was first.
    throw source.failure ? source.failure.error : asRefusal(error, compression);
  }
}

/** Hash and size of what goes through. */
export class Measure {
  readonly #hash: IncrementalHash;
  #size = 0;
  #digest: Bytes | null = null;

  constructor(hasher: Hasher) {
    this.#hash = hasher.sha256();
  }

  /** Throws `unprocessable_entity` at the end when `expected` is given and is another hash. */
  async *through(body: ByteStream, expected?: Hash): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      this.#hash.update(chunk);
      this.#size += chunk.length;
      yield chunk;
    }
    this.#digest = this.#hash.digest();
    if (expected) requireDigest("the file", this.#digest, expected);
  }

  get size(): number {
    return this.#size;
  }

  facts(): { readonly hash: Bytes; readonly size: number } {
    assert(this.#digest, "the hash is known once the body has ended");
    return { hash: this.#digest, size: this.#size };
  }
}

export async function drain(stream: ByteStream): Promise<void> {
  for await (const _ of stream);
}

function unpacked({ codec }: NarFormDeps, { compression, check }: IncomingNar, file: ByteStream): ByteStream {
  const nar = compression === "none" ? file : codec.decompress(compression, file);
  if (!nar) {
    throw new DomainError("unsupported_media_type", `this server cannot read ${compression}: send zstd`);
  }
  return check(compression === "br" ? certainNar(nar) : nar);
}

/** Only what comes out of it tells a brotli file from any other bytes. */
async function* certainNar(nar: ByteStream): AsyncGenerator<Uint8Array> {
  let start: Uint8Array = new Uint8Array(0);
  let certain = false;
  try {
    for await (const chunk of nar) {
      if (certain) yield chunk;
      else {
        start = concatBytes([start, chunk]);
        if (start.length < START_BYTES) continue;
        if (!isNarStart(start)) break;
        certain = true;
        yield start;
      }
    }
  } catch (error) {
    if (certain) throw error;
  }
  if (certain) return;
  throw new DomainError(
    "unsupported_media_type",
    "the file is none of zstd, xz, gzip, bzip2, br and an unpacked NAR: send one of these",
  );
}

function asRefusal(error: unknown, compression: Compression): DomainError {
  if (error instanceof DomainError) return error;
  if (error instanceof NarParseError) return refused(error.message, error);
  if (error instanceof UnreadBytesError) return refused(`the ${compression} file goes on after its end`, error);
  const reason = error instanceof Error ? error.message : String(error);
  return refused(`the file cannot be read as ${compression}: ${reason}`, error);
}

/** Remembers that the sender's side failed, to tell it from what a decoder makes of it. */
class Source implements AsyncIterable<Uint8Array> {
  readonly #body: ByteStream;
  failure: { readonly error: unknown } | null = null;

  constructor(body: ByteStream) {
    this.#body = body;
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
      this.failure = { error };
      throw error;
    }
  }
}
