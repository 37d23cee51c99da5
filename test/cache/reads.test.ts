import { open } from "node:fs/promises";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CacheSurface } from "#core/http/cache-surface.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { debugMember } from "#core/nix/debug-info.ts";
import { storePathBaseName, storePathHash } from "#core/nix/store-path.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { indexDebugInfo } from "#core/services/debug-info.ts";
import { NarListings } from "#core/services/nar-listings.ts";
import { countedQueries } from "./counted-queries.ts";
import { type CacheBench, randomContent, type StoredPath, type TestCache, withCacheBench } from "./support.ts";
import { offerTree, type Tree } from "./trees.ts";

const ORIGIN = "https://cache.example.org";
const UNCONDITIONAL = { method: "GET", ifNoneMatch: undefined, range: undefined, sendfileType: undefined } as const;
const BUILD_ID = `ab${"cd".repeat(19)}`;

const SITE: Tree = {
  bin: { app: "#!", alias: { link: "app" } },
  docs: { link: "share/docs" },
  empty: "",
  out: { link: "../../../etc/passwd" },
  self: { link: "self" },
  share: {
    docs: { "index.html": "<h1>", "page.js": "alert(1)", "ü ?#%.txt": "odd", deep: { "a.svg": "<svg/>" } },
  },
};

let bench: CacheBench;
let cache: TestCache;
let surface: CacheSurface;
let site: StoredPath;
let touched: string[];

beforeAll(async () => {
  bench = await withCacheBench();
  cache = await bench.makeCache();
  touched = [];
  surface = bench.surface({ uses: { touch: (subject) => void touched.push(subject) } });
  site = await offerTree(bench, cache, "site", SITE);
});
afterAll(async () => {
  await bench[Symbol.asyncDispose]();
});

async function ask(path: string, init: RequestInit & { headers?: Record<string, string> } = {}): Promise<Response> {
  const response = await surface(new Request(`${ORIGIN}/cache/${cache.name}/${path}`, init));
  if (!response) throw new Error(`${path} is not the surface's`);
  return response;
}

function below(path: StoredPath, ...names: string[]): string {
  return ["serve", storePathHash(path.storePath), ...names].join("/");
}

/** A path that the caller keeps: one that is damaged afterwards. */
async function offerOther(name: string, tree: Tree): Promise<StoredPath> {
  return await offerTree(bench, cache, name, tree);
}

async function damage(path: StoredPath): Promise<void> {
  const file = (await bench.objectFiles()).find((one) => one.endsWith(path.nar.objectKey.split("/").at(-1) ?? "?"));
  await using handle = await open(file as string, "r+");
  const byte = new Uint8Array(1);
  const position = Math.floor(path.nar.fileSize / 2);
  await handle.read(byte, 0, 1, position);
  await handle.write(Uint8Array.of((byte[0] as number) ^ 1), 0, 1, position);
}

describe("what is in a path", () => {
  const listing = () => `${storePathHash(site.storePath)}.ls`;

  test("is listed as Nix lists it, under both addresses", async () => {
    const first = await ask(listing());
    expect(first.status).toBe(200);
    expect(first.headers.get("content-type")).toBe("application/json");
    expect(first.headers.get("vary")).toBe("accept-encoding");
    expect(first.headers.get("x-content-type-options")).toBe("nosniff");
    const text = await first.text();
    expect(first.headers.get("content-length")).toBe(String(new TextEncoder().encode(text).length));
    const { version, root } = JSON.parse(text);
    expect(version).toBe(1);
    expect(root.entries.bin.entries.app).toEqual({ type: "regular", size: 2, executable: true, narOffset: 592 });
    expect(root.entries.out).toEqual({ type: "symlink", target: "../../../etc/passwd" });
    expect(Object.keys(root.entries.share.entries.docs.entries)).toContain("ü ?#%.txt");
    const other = await ask(`ls/${storePathHash(site.storePath)}`);
    expect(await other.text()).toBe(text);
  });

  test("comes compressed to who takes that, each form with a name of its own", async () => {
    const plain = await ask(listing());
    const gzip = await ask(listing(), { headers: { "accept-encoding": "br, gzip;q=0.5" } });
    expect(gzip.headers.get("content-encoding")).toBe("gzip");
    const bytes = await gzip.bytes();
    expect(gzip.headers.get("content-length")).toBe(String(bytes.length));
    expect(gunzipSync(bytes).toString()).toBe(await plain.text());
    expect(gzip.headers.get("etag")).not.toBe(plain.headers.get("etag"));
    for (const refusing of ["br", "gzip;q=0, *", "identity", "gzip; q=0.000"]) {
      const response = await ask(listing(), { headers: { "accept-encoding": refusing } });
      expect(response.headers.get("content-encoding")).toBeNull();
      await response.body?.cancel();
    }
    const headers = { "if-none-match": gzip.headers.get("etag") as string };
    expect((await ask(listing(), { headers: { ...headers, "accept-encoding": "gzip" } })).status).toBe(304);
    expect((await ask(listing(), { headers })).status).toBe(200);
  });

  test("has the headers of GET for HEAD, and no body", async () => {
    const get = await ask(listing());
    await get.body?.cancel();
    const head = await ask(listing(), { method: "HEAD" });
    expect([head.status, head.body, [...head.headers]]).toEqual([200, null, [...get.headers]]);
  });

  test("is unpacked once, whoever asks at the same time and afterwards", async () => {
    const path = await offerOther("once", { a: "1", b: randomContent(300_000) });
    // So that each of those who ask at the same time has a connection that is open.
    await Promise.all([1, 2, 3].map(() => bench.deps.db.selectFrom("nar").select("nar_hash").execute()));
    const gate = Promise.withResolvers<void>();
    let opened = 0;
    const blobs: BlobStore = {
      ...bench.deps.blobs,
      async get(key, range) {
        opened++;
        await gate.promise;
        return await bench.deps.blobs.get(key, range);
      },
    };
    const listings = new NarListings({ ...bench.deps, blobs });
    const finding = Promise.all([1, 2, 3].map(() => listings.find(path.nar)));
    await bench.deps.db.selectFrom("nar").select("nar_hash").execute();
    gate.resolve();
    const found = await finding;
    expect(found.every((one) => one !== null && one !== "too_large")).toBe(true);
    await listings.find(path.nar);
    expect(opened).toBe(1);
  });

  test("is 404 where it would be larger than what is kept, and that is remembered", async () => {
    const many = Object.fromEntries(Array.from({ length: 3_000 }, (_, index) => [`file-${index}`, ""]));
    for (const limits of [
      { textBytesMax: 20_000, gzipBytesMax: 1e9 },
      { textBytesMax: 1e9, gzipBytesMax: 1_000 },
    ]) {
      const path = await offerOther("many", { ...many, [`${limits.gzipBytesMax}`]: "" });
      const small = new NarListings(bench.deps, limits);
      expect(await small.find(path.nar)).toBe("too_large");
      expect(await new NarListings(bench.deps).find(path.nar)).toBe("too_large");
      expect((await ask(`${storePathHash(path.storePath)}.ls`)).status).toBe(404);
      const file = await ask(below(path, "file-7"));
      expect([file.status, file.headers.get("content-length"), await file.text()]).toEqual([200, "0", ""]);
      expect((await ask(below(path, "file-x"))).status).toBe(404);
    }
  });

  test("is not said of what is damaged", async () => {
    const path = await offerOther("broken", { a: randomContent(1_000) });
    await damage(path);
    expect((await ask(`${storePathHash(path.storePath)}.ls`)).status).toBe(404);
    const rows = await bench.deps.db
      .selectFrom("nar_listing")
      .select("text_bytes")
      .where("nar_hash", "=", path.narHash.digest)
      .execute();
    expect(rows).toEqual([]);
  });
});

describe("a file of a path", () => {
  test("comes with its size, its type, and nothing that runs", async () => {
    const page = await ask(below(site, "share", "docs", "index.html"));
    expect(await page.text()).toBe("<h1>");
    const headers = Object.fromEntries(page.headers);
    expect(headers).toMatchObject({
      "content-type": "text/html; charset=utf-8",
      "content-length": "4",
      "content-security-policy": "sandbox",
      "x-content-type-options": "nosniff",
      "accept-ranges": "bytes",
      "cache-control": "public, max-age=1",
    });
    const script = await ask(below(site, "share", "docs", "page.js"));
    expect(script.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    const odd = await ask(below(site, "share", "docs", encodeURIComponent("ü ?#%.txt")));
    expect(await odd.text()).toBe("odd");
    expect(await (await ask(below(site, "empty"))).text()).toBe("");
    expect(touched).toContain(`${cache.id}/${storePathHash(site.storePath)}`);
  });

  test("is asked for with HEAD, conditions and ranges", async () => {
    const content = randomContent(700_000);
    const path = await offerOther("large", { a: randomContent(100_000), b: content, c: randomContent(100_000) });
    const whole = await ask(below(path, "b"));
    expect(await whole.bytes()).toEqual(content);
    const head = await ask(below(path, "b"), { method: "HEAD" });
    expect([head.status, head.body, [...head.headers]]).toEqual([200, null, [...whole.headers]]);
    const etag = whole.headers.get("etag") as string;
    expect((await ask(below(path, "b"), { headers: { "if-none-match": etag } })).status).toBe(304);
    expect((await ask(below(path, "c"), { headers: { "if-none-match": etag } })).status).toBe(200);
    const part = await ask(below(path, "b"), { headers: { range: "bytes=300000-300099", "if-range": etag } });
    expect([part.status, part.headers.get("content-range")]).toEqual([206, "bytes 300000-300099/700000"]);
    expect(await part.bytes()).toEqual(content.subarray(300_000, 300_100));
    expect((await ask(below(path, "b"), { headers: { range: "bytes=700000-" } })).status).toBe(416);
  });

  test("is the path itself where that is a file", async () => {
    const path = await offerOther("alone.txt", "text");
    const response = await ask(below(path));
    expect([await response.text(), response.headers.get("content-type")]).toEqual([
      "text",
      "text/plain; charset=utf-8",
    ]);
    expect((await ask(below(path, "x"))).status).toBe(404);
    expect((await ask(below(path, ""))).status).toBe(404);
  });

  test("is a folder's index where the folder is asked for as one, else the folder is an archive", async () => {
    expect(await (await ask(below(site, "share", "docs", ""))).text()).toBe("<h1>");
    const archive = await ask(below(site, "share", "docs"));
    expect(archive.headers.get("content-disposition")).toBe('attachment; filename="docs.tar.zst"');
    expect(archive.headers.get("content-security-policy")).toBe("sandbox");
    const tar = zstdDecompressSync(await archive.bytes()).toString("latin1");
    for (const name of ["docs/index.html\0", "docs/deep/a.svg\0", "alert(1)"]) expect(tar).toContain(name);
    const root = await ask(below(site), { method: "HEAD" });
    const name = `${storePathBaseName(site.storePath)}.tar.zst`;
    expect(root.headers.get("content-disposition")).toBe(`attachment; filename="${name}"`);
  });

  test("is led to by a link, in this path or another one, and nowhere else", async () => {
    const other = await offerOther("other", {
      to: { link: `${site.storePath}/share` },
      near: { link: `../${storePathBaseName(site.storePath)}/empty` },
      gone: { link: "/nix/store/nothing" },
      outside: { link: "/etc/passwd" },
      foreign: { link: `/gnu/store/${storePathBaseName(site.storePath)}/empty` },
    });
    const led = async (path: string) => {
      const { status, headers } = await ask(path);
      return status === 307 ? headers.get("location") : status;
    };
    const place = (...names: string[]) => `/cache/${cache.name}/${below(site, ...names)}`;
    expect(await led(below(site, "bin", "alias"))).toBe(place("bin", "app"));
    expect(await led(below(site, "docs", "deep", "a.svg"))).toBe(place("share", "docs", "deep", "a.svg"));
    expect(await led(below(site, "docs", ""))).toBe(place("share", "docs", ""));
    expect(await led(below(other, "to", "docs"))).toBe(place("share", "docs"));
    expect(await led(below(other, "near"))).toBe(place("empty"));
    for (const [path, name] of [
      [site, "out"],
      [site, "self"],
      [other, "gone"],
      [other, "outside"],
      [other, "foreign"],
    ] as const) {
      expect(await led(below(path, name))).toBe(404);
    }
  });

  test.each(["..", "%2e%2e", "share//docs", "share%2fdocs", "%00", "%", "%ff", "nothing", "bin/app/x"])(
    "is not at %s",
    async (path) => {
      expect((await ask(below(site, path))).status).toBe(404);
    },
  );

  test("is unpacked for a few at a time; who would wait behind too many is told to come again", async () => {
    await (await ask(below(site, "bin", "app"))).body?.cancel();
    const gate = Promise.withResolvers<void>();
    let opened = 0;
    const blobs: BlobStore = {
      ...bench.deps.blobs,
      async get(key, range) {
        opened++;
        await gate.promise;
        return await bench.deps.blobs.get(key, range);
      },
    };
    const slow = bench.surface({ blobs });
    const statuses: number[] = [];
    const asking = Array.from({ length: 80 }, async () => {
      const response = await slow(new Request(`${ORIGIN}/cache/${cache.name}/${below(site, "bin", "app")}`));
      statuses.push(response?.status ?? 0);
      if (response?.status === 503) expect(response.headers.get("retry-after")).toBe("5");
      await response?.body?.cancel();
    });
    await expect.poll(() => statuses).toEqual(Array.from({ length: 14 }, () => 503));
    expect(opened).toBe(2);
    gate.resolve();
    await Promise.all(asking);
    expect(statuses.filter((status) => status === 200)).toHaveLength(66);
  });

  test("that is damaged is cut off before its end, and 404 from then on", async () => {
    const path = await offerOther("cut", { a: randomContent(2_000_000), b: "end" });
    expect((await ask(below(path, "a"), { method: "HEAD" })).status).toBe(200);
    await damage(path);
    await expect(ask(below(path, "a")).then((response) => response.bytes())).rejects.toThrow();
    expect((await ask(below(path, "a"))).status).toBe(404);
    expect((await ask(below(path, "b"))).status).toBe(404);
  });
});

describe("debug information", () => {
  const find = (name: string) => ask(`debuginfo/${name}`);

  test("is found by its build id in this cache, as soon as debug outputs are indexed", async () => {
    const path = await offerOther("app-1.0-debug", {
      lib: { debug: { ".build-id": { ab: { [`${BUILD_ID.slice(2)}.debug`]: "x" } } } },
    });
    expect((await find(BUILD_ID)).status).toBe(404);
    const index = { db: bench.deps.db, log: bench.deps.log, listings: new NarListings(bench.deps) };
    await indexDebugInfo(index, new AbortController().signal);
    for (const name of [BUILD_ID, `${BUILD_ID}.debug`]) {
      const response = await find(name);
      expect(response.headers.get("content-type")).toBe("application/json");
      const { archive, member } = (await response.json()) as { archive: string; member: string };
      expect(member).toBe(debugMember(BUILD_ID));
      const nar = await surface(new Request(new URL(archive, `${ORIGIN}/cache/${cache.name}/debuginfo/x`)));
      expect(nar?.headers.get("content-length")).toBe(String(path.nar.fileSize));
      await nar?.body?.cancel();
    }
    const other = await bench.makeCache();
    const elsewhere = await surface(new Request(`${ORIGIN}/cache/${other.name}/debuginfo/${BUILD_ID}`));
    expect(elsewhere?.status).toBe(404);
  });

  test("goes with its NAR", async () => {
    await bench.deps.db.deleteFrom("cache_path").where("store_path", "like", "%-debug").execute();
    expect((await find(BUILD_ID)).status).toBe(404);
    await bench.deps.db
      .deleteFrom("nar")
      .where((where) =>
        where.not(
          where.exists(
            where.selectFrom("cache_path").select("hash").whereRef("cache_path.nar_hash", "=", "nar.nar_hash"),
          ),
        ),
      )
      .execute();
    expect(await bench.deps.db.selectFrom("nar_debug_file").selectAll().execute()).toEqual([]);
  });
});

describe("what programs ask", () => {
  test("is JSON where they say so", async () => {
    const narInfo = await ask(`${storePathHash(site.storePath)}.narinfo?json`);
    expect(narInfo.headers.get("content-type")).toBe("application/json");
    expect(await narInfo.json()).toMatchObject({
      StorePath: site.storePath,
      Compression: "zstd",
      FileSize: site.nar.fileSize,
      NarSize: site.nar.narSize,
      References: [],
      Deriver: null,
      CA: null,
      Sig: expect.stringMatching(/^cache\.example\.org-.*:/),
      Sigs: [expect.any(String)],
    });
    expect(await (await ask("nix-cache-info?json")).json()).toEqual({
      WantMassQuery: true,
      StoreDir: "/nix/store",
      Priority: 40,
    });
    expect(await (await ask("gradient-cache-info?json=1")).json()).toEqual({
      GradientVersion: "1.2.3",
      GradientUrl: ORIGIN,
    });
    const info = await ask("gradient-cache-info");
    expect(info.headers.get("content-type")).toBe("text/x-gradient-cache-info");
    expect(await info.text()).toBe(`GradientVersion: 1.2.3\nGradientUrl: ${ORIGIN}\n`);
  });

  test("of memory alone is the same answer, and nothing else is answered so", async () => {
    const target = `/cache/${cache.name}/${storePathHash(site.storePath)}.narinfo`;
    const plain = (method: string, ifNoneMatch?: string) =>
      surface.fromMemory({ ...UNCONDITIONAL, method, target, ifNoneMatch });
    const first = await ask(target.split("/").slice(3).join("/"));
    const text = await first.text();
    const answer = plain("GET");
    expect(answer).toMatchObject({ status: 200, body: text });
    const headers = Object.fromEntries(
      Array.from({ length: 5 }, (_, i) => answer?.headers.slice(2 * i, 2 * i + 2) ?? []),
    );
    expect(headers).toEqual(Object.fromEntries(first.headers));
    expect(plain("HEAD")).toEqual({ ...answer, body: "" });
    expect(plain("GET", headers.etag)).toMatchObject({ status: 304, body: "" });
    expect(plain("GET", '"other"')).toMatchObject({ status: 200 });
    expect(plain("PUT")).toBeNull();
    for (const other of [
      undefined,
      "",
      target.slice(1),
      `${target}?json`,
      target.replace("/cache/", "/cache//"),
      `${ORIGIN}${target}`,
      "/cache/x.narinfo",
      "/cache/.narinfo",
    ]) {
      expect(surface.fromMemory({ ...UNCONDITIONAL, target: other })).toBeNull();
    }
    const closed = await bench.makeCache({ public: false });
    await bench.commit([closed.id], [site]);
    const signedIn = bench.surface({ authenticate: async () => null });
    expect(signedIn.fromMemory({ ...UNCONDITIONAL, target: target.replace(cache.name, closed.name) })).toBeNull();
  });

  test("a small NAR of memory is the same answer, whole and without conditions", async () => {
    const target = `/cache/${cache.name}/nar/${encodeBase32(site.nar.fileHash.digest)}.nar.zst`;
    const response = await ask(target.split("/").slice(3).join("/"));
    const body = new Uint8Array(await response.arrayBuffer());

    const answer = surface.fromMemory({ ...UNCONDITIONAL, target });

    expect(answer).toMatchObject({ kind: "nar", status: 200, body });
    const headers = Array.from({ length: 6 }, (_, i) => answer?.headers.slice(2 * i, 2 * i + 2) ?? []);
    expect(Object.fromEntries(headers)).toEqual(Object.fromEntries(response.headers));
    expect(surface.fromMemory({ ...UNCONDITIONAL, target: `${target}?hash=${"0".repeat(32)}` })).toEqual(answer);
    const others = [{ method: "HEAD" }, { method: "PUT" }, { ifNoneMatch: "*" }, { range: "bytes=0-1" }];
    const proxied = { sendfileType: "X-Accel-Redirect-Only" };
    for (const other of [...others, proxied])
      expect(surface.fromMemory({ ...UNCONDITIONAL, target, ...other })).toBeNull();
    for (const other of [
      `${target}?`,
      `${target}?hash=`,
      target.replace(".zst", ""),
      target.replace("/nar/", "/nar//"),
    ]) {
      expect(surface.fromMemory({ ...UNCONDITIONAL, target: other })).toBeNull();
    }
    bench.deps.notifier.notify("path", `${cache.id}/${storePathHash(site.storePath)}`);
    await new Promise((resolve) => setImmediate(resolve));
    expect(surface.fromMemory({ ...UNCONDITIONAL, target })).toBeNull();
  });

  test("a NAR whose narinfo was asked for is not looked up again, until something becomes of its path", async () => {
    const queries = countedQueries(bench.deps.db);
    const counted = bench.surface({ db: queries.db });
    const statusOf = async (path: string) =>
      (await counted(new Request(`${ORIGIN}/cache/${cache.name}/${path}`)))?.status;
    const hash = storePathHash(site.storePath);
    const nar = `nar/${encodeBase32(site.nar.fileHash.digest)}.nar.zst`;
    expect(await statusOf(`${hash}.narinfo`)).toBe(200);
    const forNarInfo = queries.count();
    expect(await statusOf(nar)).toBe(200);
    expect(queries.count()).toBe(forNarInfo);
    bench.deps.notifier.notify("path", `${cache.id}/${hash}`);
    await new Promise((resolve) => setImmediate(resolve));
    expect(await statusOf(nar)).toBe(200);
    expect(queries.count()).toBe(forNarInfo + 1);
  });

  test("a NAR that was stored anew elsewhere is served, though nothing was heard of it", async () => {
    const moved = await offerOther("moved", { a: "moved" });
    expect((await ask(`${storePathHash(moved.storePath)}.narinfo`)).status).toBe(200);
    const { objectKey: from } = moved.nar;
    const to = `${from}-anew`;
    await bench.deps.blobs.copy(from, to);
    await bench.deps.db.updateTable("nar").set({ object_key: to }).where("object_key", "=", from).execute();
    await bench.deps.blobs.delete(from);
    const url = `nar/${encodeBase32(moved.nar.fileHash.digest)}.nar.zst`;
    expect((await ask(url)).status).toBe(200);
  });

  test("and an upstream has is passed on, where the cache has it not", async () => {
    const asked: string[] = [];
    const relay = {
      async narInfo(_: unknown, hash: string) {
        asked.push(hash);
        return null;
      },
      async nar(_: unknown, file: object) {
        asked.push(JSON.stringify(Object.keys(file)));
        return new Response("relayed");
      },
      log: async () => null,
    };
    const relaying = bench.surface({ relay });
    const get = (path: string) => relaying(new Request(`${ORIGIN}/cache/${cache.name}/${path}`));
    expect((await get(`${storePathHash(site.storePath)}.narinfo`))?.status).toBe(200);
    expect(asked).toEqual([]);
    expect((await get(`${"0".repeat(32)}.narinfo`))?.status).toBe(404);
    expect(await (await get(`nar/${"0".repeat(52)}.nar.zst`))?.text()).toBe("relayed");
    expect(await (await get(`nar/upstream/01890000-0000-7000-8000-000000000000/nar/x.nar.xz?y`))?.text()).toBe(
      "relayed",
    );
    expect(asked).toEqual(["0".repeat(32), '["fileHash"]', '["upstreamId","path"]']);
  });
});
