import { expect, test } from "vitest";
import { loadMetricCounts } from "#core/db/metric-counts.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { createNarTraffic } from "#core/services/traffic.ts";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { newId } from "#test/support/rows.ts";
import { bodyOf, randomContent, storeFile, withCacheBench } from "./support.ts";

test("what is sent of NARs is counted: whole, in parts and by a proxy, and not what clients have", async () => {
  await using bench = await withCacheBench();
  const { db } = bench.deps;
  const traffic = createNarTraffic({ db });
  const cache = await bench.makeCache();
  const path = await storeFile(bench, "path", { content: randomContent(300_000) });
  await bench.commit([cache.id], [path]);
  const { fileHash, fileSize } = path.nar;
  const url = `https://cache.example.org/cache/${cache.name}/nar/${encodeBase32(fileHash.digest)}.nar.zst`;
  const surface = bench.surface({ traffic, elsewhere: { redirected: false, proxyPath: "/internal/" } });
  const ask = async (headers: Record<string, string> = {}, method = "GET") => {
    const response = await surface(new Request(url, { method, headers }));
    if (response?.body) await bodyOf(response);
    return response as Response;
  };

  expect((await ask()).status).toBe(200);
  expect((await ask({ range: "bytes=0-99" })).status).toBe(206);
  expect((await ask({ "x-sendfile-type": "X-Accel-Redirect" })).status).toBe(200);
  expect((await ask({}, "HEAD")).status).toBe(200);
  expect((await ask({ "if-none-match": `"${encodeBase32(fileHash.digest)}"` })).status).toBe(304);
  await traffic.flush();
  await traffic.flush();

  const counts = await loadMetricCounts(db);
  expect(counts.get("nar.requests")).toBe(3);
  expect(counts.get("nar.bytes")).toBe(2 * fileSize + 100);
});

test("who tells of more than there can be takes nobody else's count away", async () => {
  await using bench = await withCacheBench();
  const { db } = bench.deps;
  const traffic = createNarTraffic({ db });
  const [cache, other] = [await bench.makeCache(), await bench.makeCache()];
  for (let i = 0; i < 3; i++) {
    for (let line = 0; line < 20_000; line++) traffic.sent(cache.id, 999_999_999_999_999);
    traffic.sent(other.id, 7);
    await traffic.flush();
  }
  const sums = await db
    .selectFrom("cache_history")
    .select(["cache_id", "bytes"])
    .where("granularity", "=", 3)
    .orderBy("bytes")
    .execute();
  expect(sums).toEqual([
    { cache_id: other.id, bytes: 21 },
    { cache_id: cache.id, bytes: Number.MAX_SAFE_INTEGER },
  ]);
  for (let i = 0; i < 150_000; i++) traffic.sent(newId(), 1);
  await traffic.flush();
  const counts = await loadMetricCounts(db);
  expect(counts.get("nar.requests")).toBe(60_003 + 100_000);
});

test.each([{ proxyCounts: false }, { proxyCounts: true }])(
  "to name a place to a proxy counts as sending it, unless the proxy tells what it sends: %o",
  async ({ proxyCounts }) => {
    await using bench = await withCacheBench();
    const traffic = createNarTraffic({ db: bench.deps.db });
    const cache = await bench.makeCache();
    const path = await storeFile(bench, "path", { content: randomContent(300_000) });
    await bench.commit([cache.id], [path]);
    const blobs = await openDiskBlobStore(bench.blobFolder, { groupReadable: true });
    const elsewhere = { redirected: false, proxyPath: "/internal/", proxyCounts };
    const surface = bench.surface({ traffic, blobs, elsewhere });
    const target = `/cache/${cache.name}/nar/${encodeBase32(path.nar.fileHash.digest)}.nar.zst`;
    const headers = { "x-sendfile-type": "X-Accel-Redirect-Only" };
    const asked = { method: "GET", target, ifNoneMatch: undefined, range: undefined };

    const told = await surface(new Request(`https://cache.example.org${target}`, { headers }));
    expect(told?.headers.has("x-accel-redirect")).toBe(true);
    expect(surface.fromMemory({ ...asked, sendfileType: headers["x-sendfile-type"] })?.kind).toBe("place");
    await traffic.flush();
    expect((await loadMetricCounts(bench.deps.db)).get("nar.requests")).toBe(proxyCounts ? undefined : 2);
  },
);
