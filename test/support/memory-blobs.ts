import { DomainError } from "#core/errors.ts";
import { concatBytes } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { assertKeyPrefix, assertObjectKey, compareKeys } from "#core/ports/object-key.ts";

export interface MemoryBlobsOptions {
  readonly now?: () => Date;
  readonly pageObjects?: number;
}

/** Kept with the objects: a store that is opened anew over the same map knows them. */
const timesOf = new WeakMap<Map<string, Uint8Array>, Map<string, Date>>();

/** A blob store over a map that the test looks into and changes. What the test puts there itself is as old as time. */
export function memoryBlobs(
  objects: Map<string, Uint8Array> = new Map(),
  { now = () => new Date(), pageObjects = 1_000 }: MemoryBlobsOptions = {},
): BlobStore {
  const times = timesOf.get(objects) ?? new Map<string, Date>();
  timesOf.set(objects, times);
  const store = (key: string, bytes: Uint8Array): { size: number } => {
    if (objects.has(key)) throw new DomainError("already_exists", `the key ${key} exists`);
    objects.set(key, bytes);
    times.set(key, now());
    return { size: bytes.length };
  };
  return {
    async put(key, body) {
      assertObjectKey(key);
      const parts: Uint8Array[] = [];
      for await (const part of body) parts.push(part.slice());
      return store(key, concatBytes(parts));
    },
    async get(key, range) {
      assertObjectKey(key);
      const bytes = objects.get(key);
      if (!bytes) return null;
      const part = range ? bytes.subarray(range.start, range.start + range.length) : bytes;
      return { size: bytes.length, body: streamOf(...piecesOf(part)), discard: async () => {} };
    },
    async head(key) {
      assertObjectKey(key);
      const bytes = objects.get(key);
      return bytes ? { size: bytes.length } : null;
    },
    async delete(key) {
      assertObjectKey(key);
      objects.delete(key);
      times.delete(key);
    },
    async list(prefix, after = "") {
      assertKeyPrefix(prefix);
      const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && compareKeys(key, after) > 0);
      const page = keys.sort(compareKeys).slice(0, pageObjects);
      const sizeOf = (key: string): number => objects.get(key)?.length ?? 0;
      return {
        objects: page.map((key) => ({ key, size: sizeOf(key), storedAt: times.get(key) ?? new Date(0) })),
        next: page.length < keys.length ? (page.at(-1) ?? null) : null,
      };
    },
    async copy(from, to) {
      assertObjectKey(from);
      assertObjectKey(to);
      const bytes = objects.get(from);
      return bytes ? store(to, bytes) : null;
    },
  };
}

/** As a real store gives them. */
const PIECE_BYTES = 64 * 1024;

function piecesOf(bytes: Uint8Array): Uint8Array[] {
  const count = Math.ceil(bytes.length / PIECE_BYTES);
  return Array.from({ length: count }, (_, index) => bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES));
}
