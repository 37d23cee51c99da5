import { expect, test } from "vitest";
import { type ByteStream, collect, streamOf } from "../lib/streams.ts";
import { UnreadBytesError, watched } from "./nar-tee.ts";

const PARTS = [Uint8Array.of(1), Uint8Array.of(2, 3), Uint8Array.of(4)];

async function readAll(stream: ByteStream): Promise<void> {
  await collect(stream, 1_000);
}

test("the watcher sees the bytes that are passed on", async () => {
  const seen: number[] = [];
  const passed = await collect(
    watched(streamOf(...PARTS), async (copy) => {
      for await (const chunk of copy) seen.push(...chunk);
    }),
    100,
  );
  expect([...passed]).toEqual([1, 2, 3, 4]);
  expect(seen).toEqual([1, 2, 3, 4]);
});

test("an objection at the very end keeps the end from being passed on", async () => {
  const objecting = watched(streamOf(...PARTS), async (copy) => {
    await readAll(copy);
    throw new Error("wrong hash");
  });
  await expect(readAll(objecting)).rejects.toThrow("wrong hash");
});

test("an objection in the middle stops the source at once", async () => {
  let asked = 0;
  async function* source() {
    for (;;) {
      asked++;
      yield Uint8Array.of(0);
    }
  }
  const objecting = watched(source(), async (copy) => {
    for await (const _ of copy) throw new Error("no NAR");
  });
  await expect(readAll(objecting)).rejects.toThrow("no NAR");
  expect(asked).toBeLessThan(4);
});

test("bytes that the watcher did not want are refused", async () => {
  const short = watched(streamOf(...PARTS), async (copy) => {
    for await (const _ of copy) break;
  });
  await expect(readAll(short)).rejects.toThrow(UnreadBytesError);
});

test("when the source breaks off, so does the watcher, and the source's error is the one told", async () => {
  async function* broken() {
    yield Uint8Array.of(1);
    throw new Error("connection lost");
  }
  let watcherEnd: unknown;
  const stream = watched(broken(), async (copy) => {
    await readAll(copy).catch((error: unknown) => {
      watcherEnd = error;
    });
  });
  await expect(readAll(stream)).rejects.toThrow("connection lost");
  expect(watcherEnd).toBeInstanceOf(Error);
});

test("when the reader gives up, the watcher is ended before the reader goes on", async () => {
  let watcherEnded = false;
  const stream = watched(streamOf(...PARTS), async (copy) => {
    await readAll(copy).catch(() => {});
    watcherEnded = true;
  });
  for await (const _ of stream) break;
  expect(watcherEnded).toBe(true);
});

test("the source is never more than two chunks ahead of a slow watcher", async () => {
  let ahead = 0;
  let aheadMax = 0;
  async function* source() {
    for (let i = 0; i < 20; i++) {
      aheadMax = Math.max(aheadMax, ++ahead);
      yield Uint8Array.of(i);
    }
  }
  await readAll(
    watched(source(), async (copy) => {
      for await (const _ of copy) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        ahead--;
      }
    }),
  );
  expect(aheadMax).toBeLessThanOrEqual(3);
});
