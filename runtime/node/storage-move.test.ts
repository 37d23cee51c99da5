import { expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { memoryBlobs } from "#test/support/memory-blobs.ts";
import { deleteMoved, type MoveResult, moveObjects, type StorageMove } from "./storage-move.ts";

const data = crypto.getRandomValues(new Uint8Array(10_000));

async function withObjects(count = 20) {
  const [oldObjects, freshObjects] = [new Map<string, Uint8Array>(), new Map<string, Uint8Array>()];
  const from = memoryBlobs(oldObjects, { pageObjects: 3 });
  const to = memoryBlobs(freshObjects, { pageObjects: 4 });
  for (let number = 0; number < count; number++) {
    await from.put(`nar/a${String(number).padStart(3, "0")}/1`, streamOf(data.subarray(number * 100)));
  }
  return { from, to, oldObjects, freshObjects };
}

interface Moved extends MoveResult {
  readonly proven: string | null;
  readonly errors: readonly string[];
}

async function moved(stores: Pick<StorageMove, "from" | "to">, options: Partial<StorageMove> = {}): Promise<Moved> {
  let proven: string | null = null;
  const errors: string[] = [];
  const result = await moveObjects({
    ...stores,
    proven: null,
    arrived: async (key) => {
      proven = key;
    },
    failed: (key, error) => void errors.push(`${key}: ${(error as Error).message}`),
    signal: new AbortController().signal,
    ...options,
  });
  return { ...result, proven, errors };
}

test("everything is copied, and a second run finds it in place without reading it", async () => {
  const { from, to, oldObjects, freshObjects } = await withObjects();

  const first = await moved({ from, to });
  expect(first).toMatchObject({ copied: 20, failed: 0, proven: "nar/a019/1" });
  expect(freshObjects).toEqual(oldObjects);

  const unread = { ...from, get: () => Promise.reject(new Error("it is not to be read")) };
  expect(await moved({ from: unread, to }, { proven: first.proven })).toMatchObject({
    copied: 0,
    found: 20,
    failed: 0,
  });
});

test("a move that is ended goes on where it was, and proves what was copied last", async () => {
  const { from, to, oldObjects, freshObjects } = await withObjects();
  const ending = new AbortController();
  let puts = 0;
  const slow: BlobStore = {
    ...to,
    put: async (key, body) => {
      if (++puts === 8) ending.abort();
      return await to.put(key, body);
    },
  };
  const first = await moved({ from, to: slow }, { signal: ending.signal });
  expect(first.proven).toBe("nar/a005/1");
  expect(freshObjects.size).toBeLessThan(20);
  // As a crash of the store would leave what it had not flushed.
  freshObjects.set("nar/a006/1", new Uint8Array(1));

  const second = await moved({ from, to }, { proven: first.proven });
  expect(second.errors).toEqual(["nar/a006/1: the two stores hold different bytes under this key"]);
  expect(second.proven).toBeNull();
  freshObjects.delete("nar/a006/1");
  expect(await moved({ from, to }, { proven: first.proven })).toMatchObject({ failed: 0, proven: "nar/a019/1" });
  expect(freshObjects).toEqual(oldObjects);
});

test("what came under an earlier key since is copied too", async () => {
  const { from, to, freshObjects } = await withObjects();
  const { proven } = await moved({ from, to });
  await from.put("nar/a0001/2", streamOf(data));

  expect(await moved({ from, to }, { proven })).toMatchObject({ copied: 1, found: 20 });
  expect(freshObjects.has("nar/a0001/2")).toBe(true);
});

test("a copy that comes out wrong is an error, does not stay, and stops no other", async () => {
  const { from, to, freshObjects } = await withObjects();
  const flipping: BlobStore = {
    ...to,
    put: async (key, body) => {
      const stored = await to.put(key, body);
      const bytes = freshObjects.get(key);
      if (key === "nar/a003/1" && bytes) bytes[0] = (bytes[0] as number) ^ 1;
      return stored;
    },
  };

  const result = await moved({ from, to: flipping });

  expect(result).toMatchObject({ copied: 19, failed: 1, proven: "nar/a002/1" });
  expect(result.errors).toEqual(["nar/a003/1: the two stores hold different bytes under this key"]);
  expect(freshObjects.has("nar/a003/1")).toBe(false);
});

test("what is deleted while it is copied comes to life nowhere", async () => {
  const { from, to, freshObjects } = await withObjects();
  const racing: BlobStore = {
    ...to,
    put: async (key, body) => {
      const stored = await to.put(key, body);
      if (key === "nar/a003/1") {
        await from.delete(key);
        await to.delete(key);
        await to.put(key, streamOf(...[data.subarray(300)]));
      }
      return stored;
    },
  };

  expect(await moved({ from, to: racing })).toMatchObject({ copied: 19, failed: 0 });
  expect(freshObjects.has("nar/a003/1")).toBe(false);
});

test("what has arrived is deleted where it was, and nothing else", async () => {
  const { from, to, oldObjects } = await withObjects();
  await moved({ from, to });
  await to.delete("nar/a007/1");
  await from.put("nar/zzz/1", streamOf(data));

  expect(await deleteMoved({ from, to, signal: new AbortController().signal })).toBe(19);
  expect([...oldObjects.keys()]).toEqual(["nar/a007/1", "nar/zzz/1"]);
});
