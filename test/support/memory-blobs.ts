import { concatBytes } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";

/** A blob store over a map that the test looks into and changes. */
export function memoryBlobs(objects: Map<string, Uint8Array> = new Map()): BlobStore {
  return {
    async put(key, body) {
      const parts: Uint8Array[] = [];
      for await (const part of body) parts.push(part.slice());
      if (objects.has(key)) throw new Error(`the key ${key} exists`);
      const bytes = concatBytes(parts);
      objects.set(key, bytes);
      return { size: bytes.length };
    },
    async get(key, range) {
      const bytes = objects.get(key);
      if (!bytes) return null;
      const part = range ? bytes.subarray(range.start, range.start + range.length) : bytes;
      return { size: bytes.length, body: streamOf(...piecesOf(part)), discard: async () => {} };
    },
    async head(key) {
      const bytes = objects.get(key);
      return bytes ? { size: bytes.length } : null;
    },
    async delete(key) {
      objects.delete(key);
    },
  };
}

/** As a real store gives them. */
const PIECE_BYTES = 64 * 1024;

function piecesOf(bytes: Uint8Array): Uint8Array[] {
  const count = Math.ceil(bytes.length / PIECE_BYTES);
  return Array.from({ length: count }, (_, index) => bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES));
}
