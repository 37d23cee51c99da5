import { expect, test } from "vitest";
import type { BlobStore, ObjectLocation } from "../ports/blob-store.ts";
import type { Nar } from "../services/nar.ts";
import { NarMemory } from "./nar-memory.ts";
import { NarPlaces } from "./nar-places.ts";

const HASH = { algorithm: "sha256", digest: new Uint8Array(32) } as const;
const NAR: Nar = { narHash: HASH, narSize: 9, fileHash: HASH, fileSize: 9, compression: "zstd", objectKey: "nar/aa/1" };
const KNOWN = { nar: NAR, name: "a", pathHash: "path", file: null };
const ON_NGINX = { redirected: false, proxyPath: "/internal-storage/", proxyCounts: true };

function withPlaces(elsewhere: { readonly movingTo?: string; readonly proxyPath?: null; proxyCounts?: boolean } = {}) {
  const due: (() => void)[] = [];
  const clock = { now: () => 0, monotonic: () => 0, schedule: (_ms: number, action: () => void) => cancelled(action) };
  const cancelled = (action: () => void) => {
    due.push(action);
    return () => void due.splice(due.indexOf(action), 1);
  };
  const nars = new NarMemory(clock, { ofNar: () => undefined });
  const put = () => nars.put({ cacheId: "c1", name: "a" }, KNOWN, nars.generation);
  put();
  const asked: PromiseWithResolvers<ObjectLocation | null>[] = [];
  const locate = () => {
    const answer = Promise.withResolvers<ObjectLocation | null>();
    asked.push(answer);
    return answer.promise;
  };
  const blobs = { locate } as unknown as BlobStore;
  const places = new NarPlaces({ clock, blobs, nars, elsewhere: { ...ON_NGINX, ...elsewhere } });
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const find = (nar = NAR) => places.find("c1", { ...KNOWN, nar }, nars.generation);
  return { nars, places, asked, due, settled, put, find };
}

test("a place that was found is remembered; without an answer there is none", async () => {
  const { nars, asked, due, find } = withPlaces();
  const url = { size: 9, url: "https://storage.example.org/nar/aa/1" };
  for (const answer of [null, { size: 8, path: "nar/aa/1" }, url, new Error("the disk is gone")]) {
    const found = find();
    if (answer instanceof Error) asked.at(-1)?.reject(answer);
    else asked.at(-1)?.resolve(answer);
    expect(await found).toBeNull();
    expect(nars.pathOf("c1", "a")).toBeNull();
  }
  const found = find();
  asked.at(-1)?.resolve({ size: 9, path: "nar/aa/1" });
  expect(await found).toBe("/internal-storage/nar/aa/1");
  expect(nars.pathOf("c1", "a")).toBe("/internal-storage/nar/aa/1");
  expect(due).toEqual([]);
});

test("of a path that something became of meanwhile no place is remembered", async () => {
  const { nars, asked, put, find } = withPlaces();
  const found = find();
  nars.forget("c1/path");
  put();
  asked.at(-1)?.resolve({ size: 9, path: "nar/aa/1" });
  await found;
  expect(nars.get("c1", "a")).toBeDefined();
  expect(nars.pathOf("c1", "a")).toBeNull();
});

test("a crowd that asks for the same file makes the storage look for it once", async () => {
  const { asked, due, find } = withPlaces();
  const found = Array.from({ length: 1_000 }, () => find());
  expect(asked).toHaveLength(1);
  asked[0]?.resolve({ size: 9, path: "nar/aa/1" });
  expect(new Set(await Promise.all(found))).toEqual(new Set(["/internal-storage/nar/aa/1"]));
  expect(due).toEqual([]);
  void find();
  expect(asked).toHaveLength(2);
});

test("nobody waits long for a storage; what it says later is remembered", async () => {
  const { nars, asked, due, settled, find } = withPlaces();
  const found = find();
  for (const action of [...due]) action();
  expect(await found).toBeNull();
  asked.at(-1)?.resolve({ size: 9, path: "nar/aa/1" });
  await settled();
  expect(nars.pathOf("c1", "a")).toBe("/internal-storage/nar/aa/1");
});

test("a storage that does not answer is asked for some at a time, and what waits for it has a bound", async () => {
  const { asked, settled, find } = withPlaces();
  const found = Array.from({ length: 1_000 }, (_, i) => find({ ...NAR, objectKey: `nar/${i}` }));
  expect(asked).toHaveLength(16);
  for (let answered = 0; answered < asked.length; answered++) {
    asked[answered]?.resolve(null);
    await settled();
  }
  expect(asked).toHaveLength(516);
  expect(await Promise.all(found)).toEqual(Array.from({ length: 1_000 }, () => null));
  void find();
  expect(asked).toHaveLength(517);
});

test("places are told where a proxy sends files and counts them, and not while they move", () => {
  expect(withPlaces().places.areTold).toBe(true);
  for (const elsewhere of [{ proxyPath: null }, { movingTo: "s3" }, { proxyCounts: false }]) {
    expect(withPlaces(elsewhere).places.areTold).toBe(false);
  }
});
