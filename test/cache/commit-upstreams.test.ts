import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { recordUpstreamAnswers } from "#core/db/upstream-paths.ts";
import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import { provenUpstreamPaths } from "#core/services/paths-availability.ts";
import { recordOf } from "#core/services/upstream-path.ts";
import { type CacheBench, newId, type StoredPath, storeFile, type TestCache, withCacheBench } from "./support.ts";

const LIBRARY = parseStorePath(`/nix/store/${"1".repeat(32)}-library`) as StorePath;
const OTHER = parseStorePath(`/nix/store/${"1".repeat(32)}-other`) as StorePath;
const READ = 1;
let bench: CacheBench;
let cache: TestCache;
let app: StoredPath;

beforeAll(async () => {
  bench = await withCacheBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  cache = await bench.makeCache();
  app = await storeFile(bench, "app", { references: [LIBRARY] });
});

/** An upstream of the cache that was seen to have the path. */
async function see(cacheId: string, storePath = LIBRARY): Promise<string> {
  const id = newId();
  const row = { id, cache_id: cacheId, kind: 2, display_name: "", url: `http://${id}`, public_keys: [] };
  await bench.deps.db.insertInto("cache_upstream").values(row).execute();
  const info = {
    storePath,
    url: "nar/x.nar.xz",
    compression: "xz",
    fileHash: null,
    fileSize: null,
    narHash: app.narHash,
    narSize: 120,
    references: [],
    deriver: null,
    signatures: [],
    ca: null,
  };
  await recordUpstreamAnswers(bench.deps.db, [recordOf(id, { info, signed: true })]);
  return id;
}

const REFUSED = "which neither this cache nor an upstream of it holds";

test("a path may refer to what an upstream of its cache was seen to have", async () => {
  await expect(bench.commit([cache.id], [app])).rejects.toThrow(REFUSED);
  await see(cache.id);
  const { added, promoted } = await bench.commit([cache.id], [app]);
  expect([added.map(({ storePath }) => storePath), promoted]).toEqual([[app.storePath], []]);
});

test("what another cache's upstream has, or a path of another name, does not count", async () => {
  await see((await bench.makeCache()).id);
  await see(cache.id, OTHER);
  await expect(bench.commit([cache.id], [app])).rejects.toThrow(REFUSED);
});

test("what the upstream has lost, or was seen too long ago, does not count", async () => {
  const id = await see(cache.id);
  await recordUpstreamAnswers(bench.deps.db, [{ upstream_id: id, hash: LIBRARY.slice(11, 43) }]);
  await expect(bench.commit([cache.id], [app])).rejects.toThrow(REFUSED);
  await see(cache.id);
  await sql`update upstream_path set seen_at = seen_at - interval '27 hours'`.execute(bench.deps.db);
  await expect(bench.commit([cache.id], [app])).rejects.toThrow(REFUSED);
});

test("an internal store rests on the upstreams of every cache that its organization reads", async () => {
  const organization = await bench.makeOrganization();
  const internal = await bench.makeInternalStore(organization);
  await see(cache.id);
  await expect(bench.commit([internal], [app], organization)).rejects.toThrow(REFUSED);
  await bench.subscribe(organization, cache.id, READ);
  expect((await bench.commit([internal], [app], organization)).added).toHaveLength(1);
});

test("the proof that a path is upstream names a cache that the organization reads", async () => {
  const organization = await bench.makeOrganization();
  await see(cache.id);
  const proof = () => provenUpstreamPaths(bench.deps.db, organization, [LIBRARY, OTHER]);
  expect(await proof()).toEqual(new Map());
  await bench.subscribe(organization, cache.id, READ);
  expect(await proof()).toEqual(new Map([[LIBRARY, cache.id]]));
});
