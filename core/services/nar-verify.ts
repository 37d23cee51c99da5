import { equalBytes } from "../lib/bytes.ts";
import { type Clock, MINUTE } from "../lib/clock.ts";
import { inTime } from "../lib/in-time.ts";
import type { Pace } from "../lib/pace.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Hasher } from "../ports/hasher.ts";
import type { Nar } from "./nar.ts";
import { checkedNar } from "./nar-check.ts";
import type { NarDamage } from "./nar-damage.ts";
import { watched } from "./nar-tee.ts";

export interface NarVerifyDeps {
  readonly blobs: BlobStore;
  readonly codec: Codec;
  readonly hasher: Hasher;
  readonly clock: Clock;
}

/** A store that gives nothing for so long has failed. */
const STALLED_MS: number = MINUTE;

export interface NarVerifyOptions {
  /** Whether the NAR is unpacked and its own hash checked as well. Costs some ten times the processor's time. */
  readonly unpack: boolean;
  readonly pace?: Pace;
  readonly signal?: AbortSignal;
}

/** The store failed, or the reader was stopped: nothing is known of the object. */
export class NarUnreadError extends Error {
  override readonly name = "NarUnreadError";
}

/**
 * Reads the whole stored file, in constant memory. Null when it is what was stored, else what is wrong with it; the
 * caller reports that (`reportDamage`). Throws `NarUnreadError`.
 */
export async function verifyNar(deps: NarVerifyDeps, nar: Nar, options: NarVerifyOptions): Promise<NarDamage | null> {
  const { unpack } = options;
  if (!unpack) return await verifyFile(deps, nar, options);
  const body = await openObject(deps, nar);
  if ("damage" in body) return body.damage;
  const file = new HashedFile(deps, body.stream, options);
  try {
    await drain(watched(file, (copy) => unpacked(deps, nar, copy)));
    return isRight(file, nar) ? null : FILE_DAMAGE;
  } catch (error) {
    if (error instanceof NarUnreadError) throw error;
    // A file that cannot be unpacked is one that was damaged, or one that was wrong from the beginning.
    const reason = error instanceof Error ? error.message : String(error);
    return (await verifyFile(deps, nar, options)) ?? { fault: "nar_hash", message: `its NAR is wrong: ${reason}` };
  }
}

const FILE_DAMAGE: NarDamage = {
  fault: "file_hash",
  message: "the object's bytes do not have the hash they were stored with",
};

async function verifyFile(deps: NarVerifyDeps, nar: Nar, options: NarVerifyOptions): Promise<NarDamage | null> {
  const body = await openObject(deps, nar);
  if ("damage" in body) return body.damage;
  const file = new HashedFile(deps, body.stream, options);
  await drain(file);
  return isRight(file, nar) ? null : FILE_DAMAGE;
}

async function openObject(
  { blobs, clock }: NarVerifyDeps,
  nar: Nar,
): Promise<{ readonly stream: ByteStream } | { readonly damage: NarDamage }> {
  const opening = blobs.get(nar.objectKey);
  const blob = await inTime(clock, STALLED_MS, "the object", opening).catch((error: unknown) => {
    opening.then((late) => late?.discard()).catch(() => {});
    return unread(error);
  });
  if (!blob) return { damage: { fault: "missing", message: "the object is missing" } };
  if (blob.size === nar.fileSize) return { stream: blob.body };
  await blob.discard();
  return { damage: { fault: "size", message: `the object has ${blob.size} bytes, not ${nar.fileSize}` } };
}

async function unpacked({ codec, hasher }: NarVerifyDeps, nar: Nar, copy: ByteStream): Promise<void> {
  const stream = codec.decompress(nar.compression as Compression, copy);
  if (!stream) throw new Error(`this server cannot read ${nar.compression}`);
  await drain(checkedNar(hasher, stream, nar));
}

function isRight(file: HashedFile, nar: Nar): boolean {
  return file.size === nar.fileSize && equalBytes(file.digest(), nar.fileHash.digest);
}

async function drain(stream: ByteStream): Promise<void> {
  for await (const _ of stream);
}

function unread(error: unknown): never {
  throw new NarUnreadError(error instanceof Error ? error.message : String(error), { cause: error });
}

/** Passes a file on at its pace, and keeps count of it. A failure of the store comes out as `NarUnreadError`. */
class HashedFile implements AsyncIterable<Uint8Array> {
  readonly #body: ByteStream;
  readonly #options: NarVerifyOptions;
  readonly #clock: Clock;
  readonly #hash: ReturnType<Hasher["sha256"]>;
  size = 0;

  constructor({ hasher, clock }: NarVerifyDeps, body: ByteStream, options: NarVerifyOptions) {
    this.#body = body;
    this.#options = options;
    this.#clock = clock;
    this.#hash = hasher.sha256();
  }

  digest(): Uint8Array {
    return this.#hash.digest();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const { pace, signal } = this.#options;
    const iterator = this.#body[Symbol.asyncIterator]();
    let finished = false;
    try {
      for (;;) {
        const { done, value } = await inTime(this.#clock, STALLED_MS, "a piece of it", iterator.next()).catch(unread);
        if (done) break;
        await pace?.take(value.length, signal);
        if (signal?.aborted) throw new NarUnreadError("the reader was stopped");
        this.#hash.update(value);
        this.size += value.length;
        yield value;
      }
      finished = true;
    } finally {
      // Not waited for: a store that stalls may not end either.
      if (!finished) void iterator.return?.().catch(() => {});
    }
  }
}
