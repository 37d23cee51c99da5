import { type FoundLog, findPushedLog, insertPushedLog, readPushedLog } from "../db/pushed-logs.ts";
import type { Sender } from "../db/sent-nars.ts";
import { DomainError } from "../errors.ts";
import { type ByteStream, collect, LimitExceededError, streamOf } from "../lib/streams.ts";
import { type StorePath, storePathBaseName } from "../nix/store-path.ts";
import type { UploadDeps } from "./cache-upload.ts";

/** A build that says more than that has its log where it was built. It is held in memory and in a row, compressed. */
export const PUSHED_LOG_BYTES_MAX: number = 32 * 1024 * 1024;
const ZSTD_LEVEL = 3;
/** Of a compressed log, for one statement. */
const PART_BYTES = 256 * 1024;

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
  readonly pushedAt: Date;
  /** Throws where it was taken away in the meantime. */
  read(range: { readonly start: number; readonly end: number }): ByteStream;
}

/** Null when the cache was given none. What it says is read when it is asked for, a part at a time. */
export async function openPushedLog(
  { db, codec }: Pick<UploadDeps, "db" | "codec">,
  { cacheId, derivation }: { readonly cacheId: string; readonly derivation: StorePath },
): Promise<OpenedLog | null> {
  const name = { cacheId, derivation: storePathBaseName(derivation) };
  const found = await findPushedLog(db, name);
  if (!found) return null;
  const unpacked = (): ByteStream => codec.decompress("zstd", partsOf(db, name, found)) ?? streamOf();
  return {
    bytes: found.size,
    pushedAt: found.created_at,
    read: ({ start, end }) => part(unpacked(), start, end),
  };
}

async function* partsOf(
  db: UploadDeps["db"],
  name: { readonly cacheId: string; readonly derivation: string },
  { file_bytes: fileBytes, created_at: pushedAt }: FoundLog,
): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < fileBytes; offset += PART_BYTES) {
    const bytes = await readPushedLog(db, name, { pushedAt, offset, bytes: PART_BYTES });
    if (!bytes) throw new DomainError("not_found", "the log was taken away while it was read");
    yield bytes;
  }
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
