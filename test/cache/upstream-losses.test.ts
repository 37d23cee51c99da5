import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { inTransaction } from "#core/db/transaction.ts";
import { recordUpstreamAnswers } from "#core/db/upstream-paths.ts";
import { storePathHash } from "#core/nix/store-path.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import { NarInfoLookUp } from "#core/services/cache-lookup.ts";
import type { RemotePath } from "#core/services/upstream.ts";
import { unmarkComplete } from "#core/services/upstream-losses.ts";
import { recordOf } from "#core/services/upstream-path.ts";
import { tidyUpstreams } from "#core/services/upstream-review.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { type CacheBench, newId, type StoredPath, storeFile, type TestCache, withCacheBench } from "./support.ts";

let bench: CacheBench;
let cache: TestCache;
let url: string;
let upstreamId: string;
/** At the upstream; `library` of our cache refers to it, and `app` to that. */
let base: StoredPath;
let library: StoredPath;
let app: StoredPath;

beforeAll(async () => {
  bench = await withCacheBench();
});
afterAll(() => bench?.[Symbol.asyncDispose]());
beforeEach(async () => {
  cache = await bench.makeCache();
  url = `http://${newId()}.invalid`;
  upstreamId = await rest(cache.id);
  base = await storeFile(bench, "base");
  library = await storeFile(bench, "library", { references: [base.storePath] });
  app = await storeFile(bench, "app", { references: [library.storePath] });
  await see(upstreamId);
  await bench.commit([cache.id], [library, app]);
});

async function rest(cacheId: string, at = url): Promise<string> {
  const row = { id: newId(), cache_id: cacheId, kind: 2, display_name: "Other", url: at, public_keys: [] };
  await bench.deps.db.insertInto("cache_upstream").values(row).execute();
  return row.id;
}

function infoOf(path: StoredPath) {
  const { storePath, narHash } = path;
  const file = { url: "nar/x.nar", compression: "none", fileHash: null, fileSize: null };
  return { storePath, ...file, narHash, narSize: 120, references: [], deriver: null, signatures: [], ca: null };
}

async function see(upstream: string, path = base): Promise<void> {
  await recordUpstreamAnswers(bench.deps.db, [recordOf(upstream, { info: infoOf(path), signed: true })]);
}

async function lose(path = base): Promise<void> {
  const upstream = { id: upstreamId, cacheId: cache.id, url, keys: [], authorization: null, sourceId: null };
  const hit: RemotePath = { upstream, info: infoOf(path), signed: true, nar: null };
  await new Upstreams(bench.deps).forget(hit, "the test says so");
}

async function offered(of = cache): Promise<string[]> {
  const names: string[] = [];
  for (const [name, path] of Object.entries({ base, library, app })) {
    const hash = storePathHash(path.storePath);
    if ((await new NarInfoLookUp(bench.deps).find({ cacheId: of.id, hash })) !== null) names.push(name);
  }
  return names;
}

test("what an upstream has lost takes along everything of ours that rests on it, until it is back", async () => {
  expect(await offered()).toEqual(["library", "app"]);
  await lose();
  expect(await offered()).toEqual([]);
  await unmarkComplete(bench.deps);
  expect(await offered()).toEqual([]);
  await see(upstreamId);
  await unmarkComplete(bench.deps);
  expect(await offered()).toEqual(["library", "app"]);
});

test("nothing is taken along where the cache has it itself, or another upstream has it", async () => {
  const second = await rest(cache.id, "http://second.invalid");
  await see(second);
  await lose();
  expect(await offered()).toEqual(["library", "app"]);
  await see(upstreamId);
  await bench.deps.db.deleteFrom("cache_upstream").where("id", "=", second).execute();
  await bench.commit([cache.id], [base]);
  await lose();
  expect(await offered()).toEqual(["base", "library", "app"]);
});

test("a path that lacks a reference is offered again when the reference is sent", async () => {
  await lose();
  await bench.commit([cache.id], [base]);
  await unmarkComplete(bench.deps);
  expect(await offered()).toEqual(["base", "library", "app"]);
});

test("a path that lacks a reference is no reference itself, and can be sent anew", async () => {
  await lose();
  const other = await storeFile(bench, "other", { references: [library.storePath] });
  await expect(bench.commit([cache.id], [other])).rejects.toThrow("which neither this cache nor an upstream of it");
  await bench.commit([cache.id], [base, library]);
  expect(await offered()).toEqual(["base", "library"]);
  await unmarkComplete(bench.deps);
  expect(await offered()).toEqual(["base", "library", "app"]);
});

test("a loss is one for every cache that rests on the address, and for internal stores of their readers", async () => {
  const second = await bench.makeCache();
  await see(await rest(second.id));
  await bench.commit([second.id], [library]);
  const organizationId = await bench.makeOrganization();
  const store = { ...cache, id: await bench.makeInternalStore(organizationId) };
  await bench.subscribe(organizationId, second.id, 1);
  await bench.commit([store.id], [app, library], organizationId);
  expect([await offered(second), await offered(store)]).toEqual([["library"], ["library", "app"]]);
  await lose();
  expect([await offered(), await offered(second), await offered(store)]).toEqual([[], [], []]);
});

test("what is remembered of a lost path, and of what rests on it, is forgotten", async () => {
  const told: string[] = [];
  bench.deps.notifier.subscribe("path", (subject) => told.push(subject));
  await lose();
  const subjects = [base, library, app].map(({ storePath }) => `${cache.id}/${storePathHash(storePath)}`);
  await expect.poll(() => told).toEqual(expect.arrayContaining(subjects));
});

test("a commit that rests on what is lost meanwhile is found by the loss", async () => {
  const late = await storeFile(bench, "late", { references: [base.storePath] });
  let losing = Promise.resolve();
  await inTransaction(bench.deps.db, async (trx) => {
    await commitPaths(trx, bench, { cacheIds: [cache.id], organizationId: null, paths: [late] });
    losing = lose();
    // Long enough for a loss that did not wait.
    await new Promise((resolve) => setTimeout(resolve, 200));
  });
  await losing;
  const path = { cacheId: cache.id, hash: storePathHash(late.storePath) };
  expect(await new NarInfoLookUp(bench.deps).find(path)).toBeNull();
});

test("what rests on another cache of this server goes when that has it no more, and comes back with it", async () => {
  const source = await bench.makeCache();
  await bench.commit([source.id], [base]);
  const row = { id: newId(), cache_id: cache.id, kind: 0, display_name: "Other", url: null, public_keys: [] };
  await bench.deps.db
    .insertInto("cache_upstream")
    .values({ ...row, upstream_cache_id: source.id })
    .execute();
  await lose();
  expect(await offered()).toEqual(["library", "app"]);
  await bench.deps.db.deleteFrom("cache_path").where("cache_id", "=", source.id).execute();
  await tidyUpstreams(bench.deps, new Upstreams(bench.deps));
  expect(await offered()).toEqual([]);
  await bench.commit([source.id], [base]);
  await unmarkComplete(bench.deps);
  expect(await offered()).toEqual(["library", "app"]);
});
