import { describe, expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { testBlobStore } from "#test/conformance/blob-store.ts";
import { memoryBlobs } from "#test/support/memory-blobs.ts";
import { movingBlobStore } from "./moving-blob-store.ts";

const PAGE = { pageObjects: 3 };

describe("a store that moves", () => {
  testBlobStore(async () => ({
    store: movingBlobStore(memoryBlobs(new Map(), PAGE), memoryBlobs(new Map(), PAGE)),
    [Symbol.asyncDispose]: async () => {},
  }));
});

describe("a store that moves, whose every other object was there before", () => {
  testBlobStore(async () => {
    const [freshObjects, oldObjects] = [new Map<string, Uint8Array>(), new Map<string, Uint8Array>()];
    const old = memoryBlobs(oldObjects, PAGE);
    const moving = movingBlobStore(memoryBlobs(freshObjects, PAGE), old);
    let puts = 0;
    let underWay = 0;
    const put: BlobStore["put"] = async (key, body) => {
      underWay++;
      const stored = await moving.put(key, body).finally(() => underWay--);
      const bytes = freshObjects.get(key);
      // As if it had been there before the move began.
      if (puts++ % 2 === 0 && underWay === 0 && bytes && freshObjects.delete(key)) await old.put(key, streamOf(bytes));
      return stored;
    };
    const store = { ...moving, put };
    return { store, [Symbol.asyncDispose]: async () => {} };
  });
});

test("what is deleted is gone from both, the old one first", async () => {
  const [fresh, old] = [memoryBlobs(), memoryBlobs()];
  for (const store of [fresh, old]) await store.put("nar/abc/1", streamOf(Uint8Array.of(1)));
  const deleted: string[] = [];
  const noting = (name: string, store: BlobStore): BlobStore => ({
    ...store,
    delete: async (key) => {
      deleted.push(name);
      await store.delete(key);
    },
  });

  await movingBlobStore(noting("fresh", fresh), noting("old", old)).delete("nar/abc/1");

  expect(deleted).toEqual(["old", "fresh"]);
  expect([await fresh.head("nar/abc/1"), await old.head("nar/abc/1")]).toEqual([null, null]);
});

test("an object that is moved while it is looked for is found", async () => {
  const [fresh, old] = [memoryBlobs(), memoryBlobs()];
  const moved: BlobStore = {
    ...old,
    get: async () => {
      await fresh.put("nar/abc/1", streamOf(Uint8Array.of(1)));
      return null;
    },
  };

  expect(await movingBlobStore(fresh, moved).get("nar/abc/1")).toMatchObject({ size: 1 });
});
