import type { Readable } from "node:stream";
import { DeleteObjectCommand, GetObjectCommand, ListObjectsV2Command, type S3Client } from "@aws-sdk/client-s3";
import { assert } from "#core/lib/assert.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { Blob, BlobStore, ByteRange, ObjectPage, StoredObject } from "#core/ports/blob-store.ts";
import { assertKeyPrefix, isObjectKey } from "#core/ports/object-key.ts";
import { S3Body } from "./body.ts";
import { S3Bucket } from "./bucket.ts";
import { copyObject } from "./copy.ts";
import { isAbsent, storageFailure } from "./errors.ts";
import { presignedAccess } from "./presigned.ts";
import type { S3Settings } from "./settings.ts";
import { upload } from "./upload.ts";

export interface S3StoreOptions {
  /** Objects up to this size are one request. Some servers want all parts of an object to be of one size. */
  readonly partBytes?: number;
  readonly copyPartBytes?: number;
  readonly pageObjects?: number;
  readonly stallMs?: number;
}

/** 10 000 parts make 78 GiB. */
const PART_BYTES = 8 * 1024 ** 2;
const PAGE_OBJECTS = 1_000;
const STALL_MS = 30_000;

/**
 * Objects in a bucket. Several servers may share it. What S3 says when it fails is the cause of the error, whose words
 * are for clients.
 */
export function openS3BlobStore(
  client: S3Client,
  settings: S3Settings,
  { partBytes = PART_BYTES, copyPartBytes, pageObjects = PAGE_OBJECTS, stallMs = STALL_MS }: S3StoreOptions = {},
): BlobStore {
  const bucket = new S3Bucket(client, settings);
  const presigned = presignedAccess(bucket);
  return {
    async put(key, body) {
      bucket.at(key);
      return await upload(bucket, key, { body, partBytes });
    },
    get: async (key, range) => await get(bucket, key, { range, stallMs }),
    async head(key) {
      const found = await bucket.head(key);
      return found && { size: found.size };
    },
    async delete(key) {
      await client.send(new DeleteObjectCommand(bucket.at(key))).catch(fail);
    },
    list: async (prefix, after) => await list(bucket, { prefix, after, pageObjects }),
    copy: (from, to, version) =>
      copyObject(bucket, { from, to, version, ...(copyPartBytes !== undefined && { partBytes: copyPartBytes }) }),
    presigned,
    async locate(key, lifetimeMs) {
      const found = await bucket.head(key);
      return found && { size: found.size, url: await presigned.readUrl(key, lifetimeMs) };
    },
  };
}

async function get(
  bucket: S3Bucket,
  key: string,
  { range, stallMs }: { readonly range: ByteRange | undefined; readonly stallMs: number },
): Promise<Blob | null> {
  // HTTP has no way to ask for nothing.
  if (range?.length === 0) {
    const found = await bucket.head(key);
    return found && { size: found.size, body: streamOf(), discard: async () => {} };
  }
  const end = range && range.start + range.length - 1;
  const opened = await open(bucket, key, range ? { Range: `bytes=${range.start}-${end}` } : {});
  if (!opened) return null;
  const { source, size, version } = opened;
  const { start, length } = range ?? { start: 0, length: size };
  assert(start + length <= size, "the range is within the object");
  const reopen = async (skip: number): Promise<Readable> => {
    const rest = { Range: `bytes=${start + skip}-${start + length - 1}`, IfMatch: version };
    const again = await open(bucket, key, rest);
    if (!again) throw new Error("the object went while it was read");
    return again.source;
  };
  const body = new S3Body(source, { length, stallMs, reopen });
  const discard = async (): Promise<void> => void (await body.return());
  return { size, body, discard, ...(version !== undefined && { version }) };
}

interface Opened {
  readonly source: Readable;
  /** Of the whole object. */
  readonly size: number;
  readonly version: string | undefined;
}

async function open(
  bucket: S3Bucket,
  key: string,
  wanted: { readonly Range?: string; readonly IfMatch?: string | undefined },
): Promise<Opened | null> {
  const command = new GetObjectCommand({ ...bucket.at(key), ...wanted });
  try {
    const { Body, ContentLength, ContentRange, ETag } = await bucket.client.send(command);
    const source = Body as Readable;
    const size = wanted.Range === undefined ? ContentLength : Number(/\/(\d+)$/.exec(ContentRange ?? "")?.[1]);
    if (size !== undefined && Number.isSafeInteger(size)) return { source, size, version: ETag };
    source.destroy();
    throw new Error("the storage did not say how large an object is");
  } catch (error) {
    if (isAbsent(error)) return null;
    throw storageFailure(error);
  }
}

async function list(
  { client, settings }: S3Bucket,
  {
    prefix,
    after,
    pageObjects,
  }: { readonly prefix: string; readonly after: string | undefined; readonly pageObjects: number },
): Promise<ObjectPage> {
  assertKeyPrefix(prefix);
  const command = new ListObjectsV2Command({
    Bucket: settings.bucket,
    Prefix: settings.prefix + prefix,
    MaxKeys: pageObjects,
    ...(after !== undefined && { StartAfter: settings.prefix + after }),
  });
  const { Contents = [], IsTruncated } = await client.send(command).catch(fail);
  const objects = Contents.flatMap(({ Key = "", Size, LastModified }): StoredObject[] => {
    const key = Key.slice(settings.prefix.length);
    // Others may keep things in the bucket, too.
    if (!isObjectKey(key) || Size === undefined || LastModified === undefined) return [];
    return [{ key, size: Size, storedAt: LastModified }];
  });
  const last = Contents.at(-1)?.Key;
  return { objects, next: IsTruncated && last !== undefined ? last.slice(settings.prefix.length) : null };
}

function fail(error: unknown): never {
  throw storageFailure(error);
}
