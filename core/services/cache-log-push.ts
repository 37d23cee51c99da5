import { findPushedLog, insertPushedLog } from "../db/pushed-logs.ts";
import type { Sender } from "../db/sent-nars.ts";
import { DomainError } from "../errors.ts";
import { type ByteStream, collect, LimitExceededError, streamOf } from "../lib/streams.ts";
import { type StorePath, storePathBaseName } from "../nix/store-path.ts";
import type { UploadDeps } from "./cache-upload.ts";

/** A build that says more than that has its log where it was built. It is held in memory and in a row, compressed. */
export const PUSHED_LOG_BYTES_MAX: number = 32 * 1024 * 1024;
const ZSTD_LEVEL = 3;

/** Keeps a build's log for the readers of a cache. First come, first kept. Throws `payload_too_large`. */
export async function pushLog(
  { db, codec }: Pick<UploadDeps, "db" | "codec">,
  { cacheId }: Pick<Sender, "cacheId">,
  { derivation, log }: { readonly derivation: StorePath; readonly log: ByteStream },
): Promise<void> {
  let size = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of log) {
      size += chunk.length;
      if (size > PUSHED_LOG_BYTES_MAX) throw tooLarge();
      yield chunk;
    }
  }
  const packed = await collect(codec.compressZstd(counted(), { level: ZSTD_LEVEL }), PUSHED_LOG_BYTES_MAX).catch(
    (error: unknown) => {
      throw error instanceof LimitExceededError ? tooLarge() : error;
    },
  );
  await insertPushedLog(db, { cacheId, derivation: storePathBaseName(derivation), log: packed, size });
}

/** A log that was pushed. */
export interface OpenedLog {
  readonly bytes: number;
  read(range: { readonly start: number; readonly end: number }): ByteStream;
}

/** Null when the cache was given none. */
export async function openPushedLog(
  { db, codec }: Pick<UploadDeps, "db" | "codec">,
  { cacheId, derivation }: { readonly cacheId: string; readonly derivation: StorePath },
): Promise<OpenedLog | null> {
  const found = await findPushedLog(db, { cacheId, derivation: storePathBaseName(derivation) });
  if (!found) return null;
  const unpacked = (): ByteStream => codec.decompress("zstd", streamOf(found.log)) ?? streamOf();
  return { bytes: found.size, read: ({ start, end }) => part(unpacked(), start, end) };
}

async function* part(body: ByteStream, start: number, end: number): AsyncGenerator<Uint8Array> {
  let offset = 0;
  for await (const chunk of body) {
    const piece = chunk.subarray(Math.max(0, start - offset), Math.max(0, end - offset));
    offset += chunk.length;
    if (piece.length > 0) yield piece;
    if (offset >= end) return;
  }
}

function tooLarge(): DomainError {
  return new DomainError("payload_too_large", `a log of more than ${PUSHED_LOG_BYTES_MAX} bytes is not taken`);
}
