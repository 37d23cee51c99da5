import { assert } from "#core/lib/assert.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { Blob, BlobStore, ByteRange, ObjectPage, StoredObject } from "#core/ports/blob-store.ts";
import { assertKeyPrefix, assertObjectKey, isObjectKey } from "#core/ports/object-key.ts";
import type { R2Bucket, R2Object, R2ObjectBody } from "./bindings.ts";
import { R2Body } from "./r2-body.ts";
import { storageFailure } from "./r2-failures.ts";
import { upload } from "./r2-upload.ts";

export interface R2StoreOptions {
  /** Before every key; empty or names that each end with a slash. */
  readonly prefix: string;
  /** Objects up to this size are one request. R2 takes no smaller parts than 5 MiB. */
  readonly partBytes?: number;
  readonly pageObjects?: number;
}

/** One is in memory for each upload, of the 128 MB that a Worker has. */
const PART_BYTES = 8 * 1024 ** 2;
/** Of R2. */
const PAGE_OBJECTS = 1_000;

/**
 * Objects in a bucket of R2, by its binding. Servers reach the same bucket with the same prefix by R2's S3 interface.
 */
export function openR2BlobStore(
  bucket: R2Bucket,
  { prefix, partBytes = PART_BYTES, pageObjects = PAGE_OBJECTS }: R2StoreOptions,
): BlobStore {
  const name = (key: string): string => {
    assertObjectKey(key);
    return prefix + key;
  };
  return {
    put: async (key, body) => await upload(bucket, name(key), { body, partBytes }),
    get: async (key, range) => await get(bucket, name(key), range),
    async head(key) {
      const found = await bucket.head(name(key)).catch(fail);
      return found && { size: found.size };
    },
    async delete(key) {
      await bucket.delete(name(key)).catch(fail);
    },
    list: async (below, after) => await list(bucket, { prefix, below, after, pageObjects }),
    copy: async (from, to, version) => await copy(bucket, { from: name(from), to: name(to), version, partBytes }),
  };
}

async function get(bucket: R2Bucket, name: string, range: ByteRange | undefined): Promise<Blob | null> {
  // R2 has no way to ask for nothing.
  if (range?.length === 0) {
    const found = await bucket.head(name).catch(fail);
    return found && { size: found.size, version: found.etag, body: streamOf(), discard: async () => {} };
  }
  const object = await bucket.get(name, range && { range: { offset: range.start, length: range.length } }).catch(fail);
  if (!object) return null;
  assert(isWithBody(object), "without a condition an object comes with its body");
  const body = new R2Body(object.body, range?.length ?? object.size);
  const discard = async (): Promise<void> => void (await body.return());
  return { size: object.size, version: object.etag, body, discard };
}

async function list(
  bucket: R2Bucket,
  {
    prefix,
    below,
    after,
    pageObjects,
  }: {
    readonly prefix: string;
    readonly below: string;
    readonly after: string | undefined;
    readonly pageObjects: number;
  },
): Promise<ObjectPage> {
  assertKeyPrefix(below);
  const page = await bucket
    .list({ prefix: prefix + below, limit: pageObjects, ...(after !== undefined && { startAfter: prefix + after }) })
    .catch(fail);
  const objects = page.objects.flatMap(({ key: name, size, uploaded }): StoredObject[] => {
    const key = name.slice(prefix.length);
    // Others may keep things in the bucket, too.
    return isObjectKey(key) ? [{ key, size, storedAt: uploaded }] : [];
  });
  const last = page.objects.at(-1)?.key;
  return { objects, next: page.truncated && last !== undefined ? last.slice(prefix.length) : null };
}

/** The binding cannot copy by itself: the bytes pass through, a piece at a time. */
async function copy(
  bucket: R2Bucket,
  {
    from,
    to,
    version,
    partBytes,
  }: {
    readonly from: string;
    readonly to: string;
    readonly version: string | undefined;
    readonly partBytes: number;
  },
): Promise<{ size: number } | null> {
  const condition = version === undefined ? {} : { onlyIf: { etagMatches: version } };
  const object = await bucket.get(from, condition).catch(fail);
  if (!object || !isWithBody(object)) return null;
  return await upload(bucket, to, { body: new R2Body(object.body, object.size), partBytes });
}

function isWithBody(object: R2Object | R2ObjectBody): object is R2ObjectBody {
  return "body" in object && object.body !== null && object.body !== undefined;
}

function fail(error: unknown): never {
  throw storageFailure(error);
}
