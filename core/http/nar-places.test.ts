import { expect, test } from "vitest";
import type { BlobStore, ObjectLocation } from "../ports/blob-store.ts";
import type { Nar } from "../services/nar.ts";
import { NarMemory } from "./nar-memory.ts";
import { NarPlaces } from "./nar-places.ts";

const HASH = { algorithm: "sha256", digest: new Uint8Array(32) } as const;
const NAR: Nar = { narHash: HASH, narSize: 9, fileHash: HASH, fileSize: 9, compression: "zstd", objectKey: "nar/aa/1" };
const FILE = { cacheId: "c1", name: "a" };
const CLOCK = { now: () => 0, monotonic: () => 0, schedule: () => () => {} };
const ON_NGINX = { redirected: false, proxyPath: "/internal-storage/" };

function withPlaces(elsewhere: { readonly movingTo?: string; readonly proxyPath?: null } = {}) {
  const nars = new NarMemory(CLOCK);
  const put = () => nars.put(FILE, { nar: NAR, name: FILE.name, pathHash: "path", file: null }, nars.generation);
  put();
  const asked: PromiseWithResolvers<ObjectLocation | null>[] = [];
  const locate = () => {
    const answer = Promise.withResolvers<ObjectLocation | null>();
    asked.push(answer);
    return answer.promise;
  };
  const blobs = { locate } as unknown as BlobStore;
  const places = new NarPlaces({ blobs, nars, elsewhere: { ...ON_NGINX, ...elsewhere } });
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  return { nars, asked, settled, put, lookAhead: () => places.lookAhead(FILE, NAR, nars.generation) };
}

test("a place that was looked for ahead is remembered; without an answer there is none", async () => {
  const { nars, asked, settled, lookAhead } = withPlaces();
  const url = { size: 9, url: "https://storage.example.org/nar/aa/1" };
  for (const answer of [null, { size: 8, path: "nar/aa/1" }, url, new Error("the disk is gone")]) {
    lookAhead();
    if (answer instanceof Error) asked.at(-1)?.reject(answer);
    else asked.at(-1)?.resolve(answer);
    await settled();
    expect(nars.pathOf("c1", "a")).toBeNull();
  }
  lookAhead();
  asked.at(-1)?.resolve({ size: 9, path: "nar/aa/1" });
  await settled();
  expect(nars.pathOf("c1", "a")).toBe("/internal-storage/nar/aa/1");
});

test("of a path that something became of meanwhile no place is remembered", async () => {
  const { nars, asked, settled, put, lookAhead } = withPlaces();
  lookAhead();
  nars.forget("c1/path");
  put();
  asked.at(-1)?.resolve({ size: 9, path: "nar/aa/1" });
  await settled();
  expect(nars.get("c1", "a")).toBeDefined();
  expect(nars.pathOf("c1", "a")).toBeNull();
});

test("a storage that does not answer is asked for some at a time, and what waits for it has a bound", async () => {
  const { asked, settled, lookAhead } = withPlaces();
  for (let i = 0; i < 1_000; i++) lookAhead();
  expect(asked).toHaveLength(16);
  for (let answered = 0; answered < asked.length; answered++) {
    asked[answered]?.resolve(null);
    await settled();
  }
  expect(asked).toHaveLength(516);
  lookAhead();
  expect(asked).toHaveLength(517);
});

test("nothing is looked for where no proxy sends files, or while they move", () => {
  for (const elsewhere of [{ proxyPath: null }, { movingTo: "s3" }]) {
    const { asked, lookAhead } = withPlaces(elsewhere);
    lookAhead();
    expect(asked).toHaveLength(0);
  }
});
