import type { Kysely } from "kysely";
import type { NewNar } from "../db/nars.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { DomainError } from "../errors.ts";
import { equalBytes, toHex } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import { type RandomBytes, uuidV7 } from "../lib/ids.ts";
import { type ByteStream, readAhead, streamOf } from "../lib/streams.ts";
import { encodeBase32 } from "../nix/base32.ts";
import type { Hash } from "../nix/hash.ts";
import { NarParseError } from "../nix/nar-reader.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Hasher } from "../ports/hasher.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { Nar } from "./nar.ts";
import { checkedNar, refused, requireDigest } from "./nar-check.ts";
import { recordNars, settleRecorded } from "./nar-record.ts";
import { UnreadBytesError, watched } from "./nar-tee.ts";

export interface NarReceiveDeps {
  readonly db: Kysely<Database>;
  readonly blobs: BlobStore;
  readonly codec: Codec;
  readonly hasher: Hasher;
  readonly notifier: Notifier;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: RandomBytes;
}

export interface NarUpload {
  /** SHA-256 of the NAR, and its size in bytes: what the body must unpack to. */
  readonly narHash: Hash;
  readonly narSize: number;
  /** Of the file as it comes, where the sender said it: a difference tells damage on the way from a wrong NAR. */
  readonly fileHash?: Hash;
  readonly compression: Compression;
  readonly body: ByteStream;
}

/** NARs up to this size are proven in one go. */
const AT_ONCE_BYTES_MAX = 64 * 1024;
/** Level 9 makes files 8 % smaller than this and takes four times as long; workers send zstd and never come here. */
const ZSTD_LEVEL = 3;

/**
 * Stores one NAR, reading the body once in constant memory: a zstd file stays as it came, anything else becomes zstd.
 * Throws `DomainError` (`unprocessable_entity`, `unsupported_media_type`) when the body is not what was announced, and
 * passes on what the body or the store throws; then nothing of it can be seen.
 *
 * Where the process may die, and what is true then:
 *
 * - while the object is written: the store shows nothing under its key;
 * - object durable, no row yet: no row names the object, so nobody is offered it; it stays until a sweep exists;
 * - row committed: the NAR is stored and proven. Nobody is offered it before a path names it (`commitPaths`);
 * - before a superfluous object is deleted (this one, or the damaged one it replaced): no row names it, as above.
 */
export async function receiveNar(deps: NarReceiveDeps, upload: NarUpload): Promise<Nar> {
  const candidate = await storeObject(deps, upload);
  // When it is unknown whether the commit happened, the object may be named already: it is not deleted then.
  const recorded = await inTransaction(deps.db, (trx) => recordNars(trx, [candidate]), deps);
  await settleRecorded(deps, recorded);
  return recorded.nars.get(toHex(upload.narHash.digest)) as Nar;
}

/**
 * The first half of `receiveNar`: the object is durable and proven, and no row names it. The caller records it
 * (`recordNars`) or deletes it.
 */
export async function storeObject(deps: NarReceiveDeps, upload: NarUpload): Promise<NewNar> {
  const id = uuidV7(deps.clock.now(), deps.random);
  const key = `nar/${encodeBase32(upload.narHash.digest)}/${id}`;
  const form = await quickForm(deps, upload);
  const fileHash = deps.hasher.sha256();
  let fileSize = 0;
  async function* counted(file: ByteStream): AsyncGenerator<Uint8Array> {
    for await (const chunk of file) {
      fileHash.update(chunk);
      fileSize += chunk.length;
      yield chunk;
    }
  }
  await deps.blobs.put(key, counted(form));
  return {
    nar_hash: upload.narHash.digest,
    nar_size: upload.narSize,
    file_hash: fileHash.digest(),
    file_size: fileSize,
    compression: "zstd",
    object_key: key,
  };
}

/**
 * The file to store. A small one is looked at in one go, which costs a tenth; where anything about it is not plainly
 * right, it takes the way of all others.
 */
async function quickForm(deps: NarReceiveDeps, upload: NarUpload): Promise<ByteStream> {
  const { codec } = deps;
  const isSmall = upload.narSize <= AT_ONCE_BYTES_MAX && upload.compression === "zstd";
  if (!codec.unpackZstdAtOnce || !isSmall) return storedForm(deps, upload);
  const begun = await readAhead(upload.body, 2 * AT_ONCE_BYTES_MAX);
  if ("rest" in begun) return storedForm(deps, { ...upload, body: begun.rest });
  const { whole } = begun;
  const nar = codec.unpackZstdAtOnce(whole, upload.narSize);
  const isRight =
    nar !== null && (await isRightNar(deps.hasher, nar, upload)) && isRightFile(deps.hasher, whole, upload);
  return isRight ? streamOf(whole) : storedForm(deps, { ...upload, body: streamOf(whole) });
}

async function isRightNar(hasher: Hasher, nar: Uint8Array, upload: NarUpload): Promise<boolean> {
  try {
    await drain(checkedNar(hasher, streamOf(nar), upload));
    return true;
  } catch {
    return false;
  }
}

function isRightFile(hasher: Hasher, file: Uint8Array, { fileHash }: NarUpload): boolean {
  if (!fileHash) return true;
  const hash = hasher.sha256();
  hash.update(file);
  return equalBytes(hash.digest(), fileHash.digest);
}

/** The file to store. It throws before its end unless everything about the upload is right. */
async function* storedForm(deps: NarReceiveDeps, upload: NarUpload): AsyncGenerator<Uint8Array> {
  const source = new Source(upload.body);
  const incoming = upload.fileHash ? checkedFile(deps.hasher, source, upload.fileHash) : source;
  try {
    if (upload.compression === "zstd") {
      yield* watched(incoming, (copy) => drain(unpacked(deps, upload, copy)));
    } else {
      yield* deps.codec.compressZstd(unpacked(deps, upload, incoming), { level: ZSTD_LEVEL });
    }
  } catch (error) {
    // The sender's own failure comes out of a decoder as "truncated": tell the one that was first.
    throw source.failure ? source.failure.error : asRefusal(error, upload.compression);
  }
}

function unpacked(deps: NarReceiveDeps, upload: NarUpload, file: ByteStream): ByteStream {
  const nar = upload.compression === "none" ? file : deps.codec.decompress(upload.compression, file);
  if (!nar) {
    throw new DomainError("unsupported_media_type", `this server cannot read ${upload.compression}: send zstd`);
  }
  return checkedNar(deps.hasher, nar, upload);
}

async function* checkedFile(hasher: Hasher, body: ByteStream, expected: Hash): AsyncGenerator<Uint8Array> {
  const hash = hasher.sha256();
  for await (const chunk of body) {
    hash.update(chunk);
    yield chunk;
  }
  requireDigest("the file", hash.digest(), expected);
}

function asRefusal(error: unknown, compression: Compression): DomainError {
  if (error instanceof DomainError) return error;
  if (error instanceof NarParseError) return refused(error.message, error);
  if (error instanceof UnreadBytesError) return refused(`the ${compression} file goes on after its end`, error);
  const reason = error instanceof Error ? error.message : String(error);
  return refused(`the file cannot be read as ${compression}: ${reason}`, error);
}

async function drain(stream: ByteStream): Promise<void> {
  for await (const _ of stream);
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
