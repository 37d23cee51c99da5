import { expect, test } from "vitest";
import { storePathHash } from "#core/nix/store-path.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { createNarProofs } from "#core/services/nar-proofs.ts";
import { bodyOf, type CacheBench, randomContent, withCacheBench } from "./support.ts";
import { asking, flipByte, narUrl, withPath } from "./surface-support.ts";

const KEPT_BYTES = 700_000;

/** The storage, with what is opened in it, and a chance to do something to it meanwhile. */
function opening(bench: CacheBench, afterOpening: () => Promise<void> = async () => {}) {
  const opened: unknown[] = [];
  const blobs: BlobStore = {
    ...bench.deps.blobs,
    async get(key, range) {
      opened.push(range ?? "all");
      const blob = await bench.deps.blobs.get(key, range);
      await afterOpening();
      return blob;
    },
  };
  return { opened, blobs };
}

function fromMemory(surface: ReturnType<CacheBench["surface"]>, url: string) {
  const { pathname } = new URL(url);
  const unconditional = { method: "GET", ifNoneMatch: undefined, range: undefined, sendfileType: undefined };
  return surface.fromMemory({ ...unconditional, target: pathname });
}

test("a file of less than 1 MiB is read once for a crowd, and is in memory then; a larger one is not", async () => {
  await using bench = await withCacheBench();
  const { opened, blobs } = opening(bench);
  const surface = bench.surface({ blobs });
  for (const [bytes, isKept] of [
    [KEPT_BYTES, true],
    [1_200_000, false],
  ] as const) {
    const { cache, path } = await withPath(bench, randomContent(bytes));
    const url = narUrl(cache, path);
    opened.length = 0;
    const crowd = await Promise.all(
      Array.from({ length: 5 }, async () => bodyOf((await surface(new Request(url))) as Response)),
    );
    expect(new Set(crowd.map((body) => body.length))).toEqual(new Set([path.nar.fileSize]));
    expect(opened).toEqual(Array(isKept ? 1 : 5).fill("all"));
    const known = fromMemory(surface, url)?.body as Uint8Array | undefined;
    expect(known && Buffer.compare(known, crowd[0] as Uint8Array)).toBe(isKept ? 0 : undefined);
  }
});

test("what lives for one request keeps nothing", async () => {
  await using bench = await withCacheBench();
  const { opened, blobs } = opening(bench);
  const surface = bench.surface({ blobs, remembers: false });
  const { cache, path } = await withPath(bench);
  for (let i = 0; i < 2; i++)
    expect((await bodyOf((await surface(new Request(narUrl(cache, path)))) as Response)).length).toBe(
      path.nar.fileSize,
    );
  expect(opened).toEqual(["all", "all"]);
  expect(fromMemory(surface, narUrl(cache, path))).toBeNull();
  const narInfo = new URL(`../${storePathHash(path.storePath)}.narinfo`, narUrl(cache, path)).href;
  expect((await surface(new Request(narInfo)))?.status).toBe(200);
  expect(fromMemory(surface, narInfo)).toBeNull();
});

test("a range is read by itself, and of what is in memory it is a part", async () => {
  await using bench = await withCacheBench();
  const { opened, blobs } = opening(bench);
  const { cache, path } = await withPath(bench, randomContent(KEPT_BYTES));
  const ask = asking(bench, { blobs });
  const part = async () => await bodyOf(await ask(narUrl(cache, path), { headers: { range: "bytes=5-14" } }));
  const read = await part();
  expect(opened).toEqual([{ start: 5, length: 10 }]);
  const whole = await bodyOf(await ask(narUrl(cache, path)));
  expect(await part()).toEqual(read);
  expect(Buffer.compare(read, whole.subarray(5, 15))).toBe(0);
  expect(opened).toHaveLength(2);
});

test("bytes that somebody changes while they are read are not kept, whatever was proven a moment ago", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench, randomContent(KEPT_BYTES));
  const proofs = { ...createNarProofs(bench.deps), stands: () => true };
  let isChanged = false;
  const { opened, blobs } = opening(bench, async () => {
    if (!isChanged) await flipByte((await bench.objectFiles())[0] as string, 500_000);
    isChanged = true;
  });
  const ask = asking(bench, { blobs, proofs });
  for (let i = 0; i < 3; i++) expect((await ask(narUrl(cache, path))).status).toBe(404);
  expect(opened).toEqual(["all"]);
  expect(bench.logged).toEqual(["a stored NAR is damaged and was taken out of service"]);
});

test("what a reader does to the bytes that it got changes nothing for others", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench, randomContent(KEPT_BYTES));
  const ask = asking(bench);
  const whole = await bodyOf(await ask(narUrl(cache, path)));
  for (const headers of [{}, { range: "bytes=0-9" }]) {
    const reader = ((await ask(narUrl(cache, path), { headers })).body as ReadableStream<Uint8Array>).getReader();
    (await reader.read()).value?.fill(0);
    await reader.cancel();
  }
  expect(Buffer.compare(await bodyOf(await ask(narUrl(cache, path))), whole)).toBe(0);
});
