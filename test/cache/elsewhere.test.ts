import { chmod, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CacheSurfaceDeps } from "#core/http/cache-surface.ts";
import type { PlainRequest } from "#core/http/plain-answer.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { storePathHash } from "#core/nix/store-path.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { openS3BlobStore } from "#runtime/node/s3/blob-store.ts";
import { createS3Client } from "#runtime/node/s3/client.ts";
import { freePort } from "#test/e2e/gradient.ts";
import { nginxAvailable, STORAGE_LOCATION, withProxy } from "#test/e2e/proxy.ts";
import { radosgwAvailable, withBucket } from "#test/support/radosgw.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import {
  bodyOf,
  type CacheBench,
  randomContent,
  SIGNED_IN,
  type StoredPath,
  storeFile,
  type TestCache,
  withCacheBench,
} from "./support.ts";

let bench: CacheBench;
let cache: TestCache;
let privateCache: TestCache;

beforeAll(async () => {
  bench = await withCacheBench();
  cache = await bench.makeCache();
  privateCache = await bench.makeCache({ public: false });
});
afterAll(() => bench[Symbol.asyncDispose]());

function urlOf(path: StoredPath, { name } = cache, origin = "https://cache.example.org"): string {
  return `${origin}/cache/${name}/nar/${encodeBase32(path.nar.fileHash.digest)}.nar.zst`;
}

async function storedPath(deps: Partial<CacheBench["deps"]> = {}): Promise<StoredPath> {
  const path = await storeFile({ deps: { ...bench.deps, ...deps } }, "path", { content: randomContent(600_000) });
  await bench.commit([cache.id, privateCache.id], [path]);
  return path;
}

const BEHIND_NGINX = { headers: { "x-sendfile-type": "X-Accel-Redirect" } };

async function onDisk(overrides: Partial<CacheSurfaceDeps> = {}) {
  const blobs = await openDiskBlobStore(bench.blobFolder, { groupReadable: true });
  const surface = bench.surface({ blobs, elsewhere: ON_NGINX, ...overrides });
  const ask = async (url: string, init?: RequestInit) => (await surface(new Request(url, init))) as Response;
  const fromMemory = (url: string, asked: Partial<PlainRequest> = {}) =>
    surface.fromMemory({ ...PLACE_ONLY, ...asked, target: new URL(url).pathname });
  return Object.assign(ask, { fromMemory, surface });
}

const ON_NGINX = { redirected: false, proxyPath: STORAGE_LOCATION };
type HeaderValues = Readonly<Record<string, string>>;
const ALSO: HeaderValues = { "x-sendfile-type": "X-Accel-Redirect-Also" };
const ONLY: HeaderValues = { "x-sendfile-type": "X-Accel-Redirect-Only" };

const PLACE_ONLY: Omit<PlainRequest, "target"> = {
  method: "GET",
  ifNoneMatch: undefined,
  range: undefined,
  sendfileType: "X-Accel-Redirect-Only",
};

test("nginx is told where the file is, by its own word only, and whoever passes it by gets the bytes", async () => {
  const ask = await onDisk();
  const path = await storedPath();

  const told = await ask(urlOf(path), BEHIND_NGINX);
  expect(told.status).toBe(200);
  expect(told.headers.get("x-accel-redirect")).toMatch(
    /^\/internal-storage\/nar\/[0-9a-z]{2}\/[0-9a-z]{52}@[0-9a-f-]+$/,
  );
  expect(told.body).toBeNull();

  const direct = await ask(urlOf(path));
  expect(direct.headers.has("x-accel-redirect")).toBe(false);
  expect((await bodyOf(direct)).length).toBe(path.nar.fileSize);
  const head = await ask(urlOf(path), { ...BEHIND_NGINX, method: "HEAD" });
  expect(head.headers.get("content-length")).toBe(String(path.nar.fileSize));
  const etag = told.headers.get("etag") ?? "";
  expect((await ask(urlOf(path), { headers: { ...BEHIND_NGINX.headers, "if-none-match": etag } })).status).toBe(304);
});

test("nginx that asks for the place only gets it without a body, or no place whenever the answer is ours", async () => {
  const ask = await onDisk();
  const [path, other] = [await storedPath(), await storedPath()];
  const only = { headers: ONLY };
  const small = await storeFile({ deps: bench.deps }, "small", { content: randomContent(100) });
  await bench.commit([cache.id], [small]);

  const told = await ask(urlOf(path), only);
  const named = await ask(urlOf(path), BEHIND_NGINX);
  expect([told.status, told.body]).toEqual([204, null]);
  for (const name of ["x-accel-redirect", "cache-control"]) {
    expect(told.headers.get(name)).toBe(named.headers.get(name));
  }
  expect(told.headers.get("x-gradient-nar-cache-control")).toBe(named.headers.get("cache-control"));
  expect(`"${told.headers.get("x-gradient-nar")}"`).toBe(named.headers.get("etag"));
  expect(told.headers.get("x-gradient-nar-log")).toBe(`${cache.id} ${path.nar.fileSize}`);
  expect((await ask(urlOf(small), only)).headers.get("x-accel-redirect")).toMatch(/^\/internal-storage\//);
  expect((await ask(urlOf(path, privateCache), only)).status).toBe(401);

  const file = (await bench.objectFiles()).find((name) => name.includes(other.nar.objectKey.split("/").at(-1) ?? "-"));
  await truncate(file as string, 10);
  const absent = urlOf(path).replace(/nar\/.{52}/, `nar/${"0".repeat(52)}`);
  for (const url of [absent, urlOf(other)]) {
    const { status, headers } = await ask(url, only);
    expect([status, headers.get("x-accel-redirect"), headers.get("cache-control")]).toEqual([204, null, "no-store"]);
  }
});

test("nginx is told a place again of memory, of a public cache and until something becomes of the path", async () => {
  const ask = await onDisk({
    authenticate: async (request) => (request.headers.has("authorization") ? SIGNED_IN : null),
    canReadCache: async () => true,
  });
  const path = await storedPath();
  const only = { headers: ONLY };
  expect(ask.fromMemory(urlOf(path))).toBeNull();
  const told = await ask(urlOf(path), only);

  const again = ask.fromMemory(urlOf(path));
  expect(again).toMatchObject({ kind: "place", status: 204, body: "" });
  const headers = Array.from({ length: 5 }, (_, i) => again?.headers.slice(2 * i, 2 * i + 2) ?? []);
  expect(again?.headers).toHaveLength(10);
  expect(Object.fromEntries(headers)).toEqual(Object.fromEntries(told.headers));

  for (const other of [{ method: "HEAD" }, { ifNoneMatch: "*" }, { range: "bytes=0-1" }, { sendfileType: undefined }])
    expect(ask.fromMemory(urlOf(path), other)).toBeNull();
  const signedIn = { headers: { ...only.headers, authorization: "Basic eDp5" } };
  expect((await ask(urlOf(path, privateCache), signedIn)).headers.has("x-accel-redirect")).toBe(true);
  expect(ask.fromMemory(urlOf(path, privateCache))).toBeNull();

  for (const subject of [`${cache.id}/${storePathHash(path.storePath)}`, `${cache.id}/`]) {
    await ask(urlOf(path), only);
    expect(ask.fromMemory(urlOf(path))).not.toBeNull();
    bench.deps.notifier.notify("path", subject);
    await new Promise((resolve) => setImmediate(resolve));
    expect(ask.fromMemory(urlOf(path))).toBeNull();
  }
  const moving = await onDisk({ elsewhere: { ...ON_NGINX, movingTo: "s3" } });
  expect((await moving(urlOf(path), only)).headers.has("x-accel-redirect")).toBe(true);
  expect(moving.fromMemory(urlOf(path))).toBeNull();
});

test("nginx that counts what it sends is told a public NAR's place with its narinfo, and nobody else", async () => {
  const disk = await openDiskBlobStore(bench.blobFolder, { groupReadable: true });
  const located: string[] = [];
  const locate: BlobStore["locate"] = (key, ms) => {
    located.push(key);
    return disk.locate?.(key, ms) ?? Promise.resolve(null);
  };
  const ask = await onDisk({
    blobs: { ...disk, locate },
    elsewhere: { ...ON_NGINX, proxyCounts: true },
    authenticate: async () => SIGNED_IN,
    canReadCache: async () => true,
  });
  const narInfoOf = async (path: StoredPath, { name }: TestCache, query = "", headers: HeaderValues = ALSO) =>
    await ask(`https://cache.example.org/cache/${name}/${storePathHash(path.storePath)}.narinfo${query}`, { headers });
  const [path, other] = [await storedPath(), await storedPath()];
  const plain = await narInfoOf(path, cache, "", {});
  for (const answer of [
    plain,
    await narInfoOf(path, privateCache),
    await narInfoOf(path, cache, "?json"),
    await narInfoOf(path, cache, "", BEHIND_NGINX.headers),
  ]) {
    expect([...answer.headers.keys()].filter((name) => /^x-(?:accel|gradient)/.test(name))).toEqual([]);
    expect(await answer.clone().text()).not.toContain("?hash=");
  }
  expect(located).toEqual([]);

  const told = await narInfoOf(path, cache);
  const place = await ask(urlOf(path), { headers: ONLY });
  for (const [name, value] of place.headers) {
    if (name !== "cache-control") expect(told.headers.get(name)).toBe(value);
  }
  expect(told.headers.get("x-accel-redirect")).toMatch(/^\/internal-storage\/nar\//);
  expect(told.headers.get("cache-control")).toBe("public, max-age=1");
  const text = await told.text();
  expect(text.replace(/\?hash=\w{32}$/m, "")).toBe(await plain.text());
  const url = /^URL: (.*)$/m.exec(text)?.[1] ?? "";
  expect(url).toBe(`${urlOf(path).split("/").slice(-2).join("/")}?hash=${storePathHash(path.storePath)}`);
  expect(told.headers.get("content-length")).toBe(String(text.length));
  expect(told.headers.get("etag")).not.toBe(plain.headers.get("etag"));
  const known = await narInfoOf(path, cache, "", { ...ALSO, "if-none-match": told.headers.get("etag") ?? "" });
  expect([known.status, known.headers.get("etag")]).toEqual([304, told.headers.get("etag")]);
  const bytes = await ask(`https://cache.example.org/cache/${cache.name}/${url}`);
  expect((await bodyOf(bytes)).length).toBe(path.nar.fileSize);

  // At once, and the same, for as long as it is remembered.
  const asked = { ...PLACE_ONLY, target: `/cache/${cache.name}/${storePathHash(path.storePath)}.narinfo` };
  const again = ask.surface.fromMemory(asked);
  expect([again?.kind, again?.body]).toEqual(["narinfo", text]);
  const pairs = again?.headers.flatMap((name, i, all) => (i % 2 === 0 ? [[name, all[i + 1] as string]] : [])) ?? [];
  expect(Object.fromEntries(pairs)).toEqual(Object.fromEntries(told.headers));
  expect(ask.surface.fromMemory({ ...asked, sendfileType: undefined })?.body).not.toContain("?hash=");
  bench.deps.notifier.notify("path", `${cache.id}/${storePathHash(path.storePath)}`);
  await new Promise((resolve) => setImmediate(resolve));
  expect(ask.surface.fromMemory(asked)).toBeNull();

  const file = (await bench.objectFiles()).find((name) => name.includes(other.nar.objectKey.split("/").at(-1) ?? "-"));
  await truncate(file as string, 10);
  const withoutFile = await narInfoOf(other, cache);
  expect(withoutFile.headers.has("x-accel-redirect")).toBe(false);
  expect(await withoutFile.text()).not.toContain("?hash=");
});

test("a NAR that is fetched is one use of its path, and a place is told while its narinfo is remembered", async () => {
  let now = 0;
  const used: string[] = [];
  const ask = await onDisk({
    clock: { now: () => now, monotonic: () => now, schedule: () => () => {} },
    uses: { touch: (key: string) => void used.push(key) },
    elsewhere: { ...ON_NGINX, proxyCounts: true },
  });
  const path = await storedPath();
  const narInfo = (headers: HeaderValues) =>
    ask(`https://cache.example.org/cache/${cache.name}/${storePathHash(path.storePath)}.narinfo`, { headers });
  await ask(urlOf(path), { headers: ONLY });
  expect(used).toEqual([]);

  now = 59_000;
  expect((await narInfo(ALSO)).headers.has("x-accel-redirect")).toBe(true);
  expect(used).toHaveLength(1);
  for (const headers of [ONLY, ALSO]) {
    now += 10_500;
    const told = await narInfo(headers);
    expect([told.headers.has("x-accel-redirect"), (await told.text()).includes("?hash=")]).toEqual([true, true]);
  }
  expect(used).toHaveLength(2);
});

test("nginx is not told of a file that is not whole, or that the client may not have", async () => {
  const ask = await onDisk();
  const path = await storedPath();
  const other = await bench.makeCache();

  expect((await ask(urlOf(path, privateCache), BEHIND_NGINX)).status).toBe(401);
  const elsewhere = await ask(urlOf(path, other), BEHIND_NGINX);
  expect([elsewhere.status, elsewhere.headers.has("x-accel-redirect")]).toEqual([404, false]);
  const file = (await bench.objectFiles()).find((name) =>
    name.includes(path.nar.objectKey.split("/").at(-1) as string),
  );
  await truncate(file as string, 10);

  const cut = await ask(urlOf(path), BEHIND_NGINX);
  expect([cut.status, cut.headers.has("x-accel-redirect")]).toEqual([404, false]);
  expect(bench.logged.some((line) => line.includes("damaged"))).toBe(true);
});

test.skipIf(!nginxAvailable())("behind nginx a NAR has the same headers, ranges and bytes as without it", async () => {
  await using folder = await withTemporaryFolder();
  const surface = bench.surface({
    blobs: await openDiskBlobStore(bench.blobFolder, { groupReadable: true }),
    elsewhere: ON_NGINX,
  });
  const seen: string[] = [];
  const server = serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => {
      const response = (await surface(request)) as Response;
      seen.push(response.headers.get("x-accel-redirect") ?? "ourselves");
      return response;
    },
  });
  await new Promise((resolve) => server.once("listening", resolve));
  await using _closed = { [Symbol.asyncDispose]: async () => void server.close() };
  const port = await freePort();
  // As in production: nginx is somebody else, in our group.
  await chmod(join(bench.blobFolder, ".."), 0o710);
  const user = process.getuid?.() === 0 ? { user: "nobody root" } : {};
  const { port: behind } = server.address() as { port: number };
  await using _proxy = await withProxy(folder.path, { port, servers: [behind], storage: bench.blobFolder, ...user });
  const path = await storedPath();
  const url = urlOf(path, cache, `http://127.0.0.1:${port}`);
  const direct = await surface(new Request(urlOf(path)));
  const bytes = await bodyOf(direct as Response);

  const whole = await fetch(url);
  expect(whole.status).toBe(200);
  for (const name of ["content-type", "cache-control", "etag", "accept-ranges", "content-length"]) {
    expect([name, whole.headers.get(name)]).toEqual([name, direct?.headers.get(name)]);
  }
  expect(Buffer.compare(await bodyOf(whole), bytes)).toBe(0);
  const etag = whole.headers.get("etag") ?? "";
  const part = await fetch(url, { headers: { range: "bytes=100-199", "if-range": etag } });
  expect([part.status, part.headers.get("content-range")]).toEqual([206, `bytes 100-199/${bytes.length}`]);
  expect(Buffer.compare(await bodyOf(part), bytes.subarray(100, 200))).toBe(0);
  const changed = await fetch(url, { headers: { range: "bytes=100-199", "if-range": '"another"' } });
  expect([changed.status, (await bodyOf(changed)).length]).toEqual([200, bytes.length]);
  expect((await fetch(url, { headers: { range: `bytes=${bytes.length}-` } })).status).toBe(416);
  expect((await fetch(url, { headers: { "if-none-match": etag } })).status).toBe(304);
  expect((await fetch(url, { method: "HEAD" })).headers.get("content-length")).toBe(String(bytes.length));
  expect(seen.filter((one) => one !== "ourselves")).toHaveLength(4);
  const inner = seen.find((one) => one !== "ourselves") ?? "";
  expect((await fetch(`http://127.0.0.1:${port}${inner}`)).status).toBe(404);
  // Nobody but our group.
  const file = join(bench.blobFolder, inner.slice(STORAGE_LOCATION.length));
  expect((await stat(file)).mode & 0o777).toBe(0o640);
});

test.skipIf(!radosgwAvailable())(
  "clients fetch from S3 what they may, by a URL that ends; others learn nothing",
  async () => {
    const settings = await withBucket();
    const client = createS3Client(settings);
    await using _closed = { [Symbol.asyncDispose]: async () => client.destroy() };
    const blobs = openS3BlobStore(client, settings);
    const path = await storedPath({ blobs });
    const surface = bench.surface({ blobs, elsewhere: { redirected: true, proxyPath: null } });
    const ask = async (url: string, init?: RequestInit) => (await surface(new Request(url, init))) as Response;

    const sent = await ask(urlOf(path));
    expect([sent.status, sent.headers.get("cache-control")]).toEqual([307, "private, no-store"]);
    const location = sent.headers.get("location") ?? "";
    expect(new URL(location).searchParams.get("X-Amz-Expires")).toBe("300");
    const bytes = await bodyOf(await fetch(location));
    const direct = bench.surface({ blobs });
    expect(Buffer.compare(bytes, await bodyOf((await direct(new Request(urlOf(path)))) as Response))).toBe(0);

    const [private_, unknown] = [
      await ask(urlOf(path, privateCache)),
      await ask(urlOf(path, { ...cache, name: "none" })),
    ];
    expect([private_.status, [...private_.headers], await private_.text()]).toEqual([
      unknown.status,
      [...unknown.headers],
      await unknown.text(),
    ]);
    await blobs.delete(path.nar.objectKey);
    expect((await ask(urlOf(path))).status).toBe(404);
  },
);
