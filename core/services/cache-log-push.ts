import { insertPushedLog } from "../db/pushed-logs.ts";
import type { Sender } from "../db/sent-nars.ts";
import { DomainError } from "../errors.ts";
import { type ByteStream, collect, LimitExceededError } from "../lib/streams.ts";
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

function tooLarge(): DomainError {
  return new DomainError("payload_too_large", `a log of more than ${PUSHED_LOG_BYTES_MAX} bytes is not taken`);
}
