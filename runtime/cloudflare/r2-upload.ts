import type { ByteStream } from "#core/lib/streams.ts";
import type { R2Bucket, R2Part } from "./bindings.ts";
import { alreadyExists, NOTHING_THERE, storageFailure } from "./r2-failures.ts";

/** Of R2. */
const PARTS_MAX = 10_000;

/** Stores the body in one request where it is small, else in parts, which R2 joins when all of them are there. */
export async function upload(
  bucket: R2Bucket,
  name: string,
  { body, partBytes }: { readonly body: ByteStream; readonly partBytes: number },
): Promise<{ size: number }> {
  const parts = partsOf(body, partBytes);
  try {
    const { value: first = new Uint8Array() } = await parts.next();
    if (first.length === partBytes) return await uploadParts(bucket, name, { first, rest: parts });
    const written = await bucket.put(name, first, { onlyIf: NOTHING_THERE }).catch(fail);
    if (!written) throw alreadyExists();
    return { size: written.size };
  } finally {
    await parts.return(undefined);
  }
}

/** All of `partBytes` but the last one. */
async function* partsOf(body: ByteStream, partBytes: number): AsyncGenerator<Uint8Array, undefined> {
  let part = new Uint8Array(partBytes);
  let filled = 0;
  for await (const chunk of body) {
    for (let taken = 0; taken < chunk.length; ) {
      const piece = chunk.subarray(taken, taken + partBytes - filled);
      part.set(piece, filled);
      filled += piece.length;
      taken += piece.length;
      if (filled < partBytes) continue;
      yield part;
      part = new Uint8Array(partBytes);
      filled = 0;
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
}

/**
 * R2 joins parts under no condition, so it is looked before whether the key is free. Two who write one key at once are
 * a mistake of ours: keys name the upload.
 */
async function uploadParts(
  bucket: R2Bucket,
  name: string,
  { first, rest }: { readonly first: Uint8Array; readonly rest: AsyncIterable<Uint8Array> },
): Promise<{ size: number }> {
  const begun = await bucket.createMultipartUpload(name).catch(fail);
  try {
    const parts: R2Part[] = [await begun.uploadPart(1, first).catch(fail)];
    let size = first.length;
    for await (const part of rest) {
      if (parts.length === PARTS_MAX) throw storageFailure(new Error(`an object has at most ${PARTS_MAX} parts`));
      parts.push(await begun.uploadPart(parts.length + 1, part).catch(fail));
      size += part.length;
    }
    if (await bucket.head(name).catch(fail)) throw alreadyExists();
    const stored = await begun.complete(parts).catch(fail);
    if (stored.size !== size) throw storageFailure(new Error(`stored ${stored.size} bytes of ${size}`));
    return { size };
  } catch (error) {
    // Best effort: R2 drops what is left of it after a week.
    await begun.abort().catch(() => {});
    throw error;
  }
}

function fail(error: unknown): never {
  throw storageFailure(error);
}
