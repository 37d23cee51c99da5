import { createHash } from "node:crypto";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import type { ByteStream } from "#core/lib/streams.ts";
import type { S3Bucket } from "./bucket.ts";
import { alreadyExists, isConditionFailed, isNotImplemented, storageFailure, wasTriedAgain } from "./errors.ts";

/** Of S3. */
const PARTS_MAX = 10_000;
/** While one part is filled, so many are on their way: three parts of memory for one upload. */
const PARTS_UNDER_WAY_MAX = 2;
const CONTENT_TYPE = "application/octet-stream";

/** Stores the body in one request where it is small, else in parts, which S3 joins when all of them are there. */
export async function upload(
  bucket: S3Bucket,
  key: string,
  { body, partBytes }: { readonly body: ByteStream; readonly partBytes: number },
): Promise<{ size: number }> {
  const parts = partsOf(body, partBytes);
  const { value: first } = await parts.next();
  const small = first ?? new Uint8Array();
  if (small.length < partBytes) {
    await uploadWhole(bucket, key, small);
    return { size: small.length };
  }
  try {
    return await uploadParts(bucket, key, { first: small, rest: parts });
  } finally {
    await parts.return(undefined);
  }
}

async function uploadWhole(bucket: S3Bucket, key: string, Body: Uint8Array): Promise<void> {
  const whole = { ...bucket.at(key), Body, ContentType: CONTENT_TYPE };
  await conditionally(bucket, key, (condition) =>
    bucket.client.send(new PutObjectCommand({ ...whole, ...condition })),
  ).catch(async (error: unknown) => {
    // Where the answer to the first attempt was lost, the second one found the object of the first.
    const version = `"${createHash("md5").update(Body).digest("hex")}"`;
    if (!wasTriedAgain(error) || (await bucket.head(key))?.version !== version) throw error;
  });
}

/** All of `partBytes` but the last one. */
async function* partsOf(body: ByteStream, partBytes: number): AsyncGenerator<Uint8Array, undefined> {
  let part: Buffer = Buffer.alloc(0);
  let filled = 0;
  for await (const chunk of body) {
    for (let taken = 0; taken < chunk.length; ) {
      const piece = chunk.subarray(taken, taken + partBytes - filled);
      part = withRoom(part, filled, { needed: filled + piece.length, partBytes });
      part.set(piece, filled);
      filled += piece.length;
      taken += piece.length;
      if (filled < partBytes) continue;
      yield part;
      // It is on its way; the next one will be as large.
      part = Buffer.allocUnsafeSlow(partBytes);
      filled = 0;
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
}

/** Grows with what comes: thousands of small objects would otherwise each take the memory of a part. */
function withRoom(
  part: Buffer,
  filled: number,
  { needed, partBytes }: { readonly needed: number; readonly partBytes: number },
): Buffer {
  if (needed <= part.length) return part;
  const grown = Buffer.allocUnsafeSlow(Math.min(partBytes, Math.max(needed, part.length * 4)));
  part.copy(grown, 0, 0, filled);
  return grown;
}

async function uploadParts(
  bucket: S3Bucket,
  key: string,
  { first, rest }: { readonly first: Uint8Array; readonly rest: AsyncIterable<Uint8Array> },
): Promise<{ size: number }> {
  const { client } = bucket;
  const at = bucket.at(key);
  const begun = await client.send(new CreateMultipartUploadCommand({ ...at, ContentType: CONTENT_TYPE })).catch(fail);
  const named = { ...at, UploadId: begun.UploadId };
  const parts = new PartsUnderWay(async (Body, PartNumber) => {
    const { ETag } = await client.send(new UploadPartCommand({ ...named, Body, PartNumber }));
    return { ETag, PartNumber };
  });
  try {
    await parts.add(first);
    for await (const part of rest) await parts.add(part);
    const MultipartUpload = { Parts: await parts.all() };
    // Older servers overwrite here whatever the condition says.
    await requireAbsent(bucket, key);
    await conditionally(bucket, key, (condition) =>
      client.send(new CompleteMultipartUploadCommand({ ...named, ...condition, MultipartUpload })),
    ).catch(async (error: unknown) => {
      // The answer may have been lost, and there was nothing a moment ago.
      if ((await bucket.head(key))?.size !== parts.size) throw error;
    });
  } catch (error) {
    await parts.settled();
    // Best effort: what is left of it is dropped when it is a day old.
    await client.send(new AbortMultipartUploadCommand(named)).catch(() => {});
    throw error;
  }
  const stored = await bucket.head(key);
  if (stored?.size !== parts.size) throw fail(new Error(`stored ${stored?.size} bytes of ${parts.size}`));
  return { size: parts.size };
}

type Part = { readonly ETag: string | undefined; readonly PartNumber: number };

class PartsUnderWay {
  readonly #send: (part: Uint8Array, number: number) => Promise<Part>;
  readonly #sent: Promise<Part>[] = [];
  readonly #waiting = new Set<Promise<unknown>>();
  #failure: { readonly cause: unknown } | null = null;
  size = 0;

  constructor(send: (part: Uint8Array, number: number) => Promise<Part>) {
    this.#send = send;
  }

  async add(part: Uint8Array): Promise<void> {
    if (this.#sent.length === PARTS_MAX) throw fail(new Error(`an object has at most ${PARTS_MAX} parts`));
    if (this.#waiting.size === PARTS_UNDER_WAY_MAX) await Promise.race(this.#waiting);
    if (this.#failure) throw fail(this.#failure.cause);
    this.size += part.length;
    const sending = this.#send(part, this.#sent.length + 1);
    this.#sent.push(sending);
    const waiting = sending
      .catch((cause: unknown) => {
        this.#failure = { cause };
      })
      .finally(() => this.#waiting.delete(waiting));
    this.#waiting.add(waiting);
  }

  async all(): Promise<Part[]> {
    return await Promise.all(this.#sent).catch(fail);
  }

  async settled(): Promise<void> {
    await Promise.allSettled(this.#sent);
  }
}

/** Writes only where nothing is; a server that knows no conditions is asked beforehand. */
async function conditionally(
  bucket: S3Bucket,
  key: string,
  write: (condition: { IfNoneMatch?: "*" }) => Promise<unknown>,
): Promise<void> {
  try {
    if (bucket.knowsConditions) {
      await write({ IfNoneMatch: "*" });
      return;
    }
  } catch (error) {
    if (isConditionFailed(error)) throw alreadyExists(error);
    if (!isNotImplemented(error)) throw fail(error);
    bucket.knowsConditions = false;
  }
  await requireAbsent(bucket, key);
  await write({}).catch(fail);
}

async function requireAbsent(bucket: S3Bucket, key: string): Promise<void> {
  if (await bucket.head(key)) throw alreadyExists();
}

function fail(error: unknown): never {
  throw storageFailure(error);
}
