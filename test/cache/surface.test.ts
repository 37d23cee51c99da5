import { expect, test } from "vitest";
import { concatBytes, fromUtf8 } from "#core/lib/bytes.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import { storePathHash } from "#core/nix/store-path.ts";
import type { Notifier } from "#core/ports/notifier.ts";
import { announceCommit } from "#core/services/cache-commit.ts";
import { bodyOf, localNotifier, randomContent, SIGNED_IN, storeFile, withCacheBench } from "./support.ts";
import { asking, narInfoUrl, narUrl, ORIGIN, withPath } from "./surface-support.ts";

test("a path is found by its hash, and its NAR under the name that the narinfo gives", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const ask = asking(bench);

  const narInfo = await ask(narInfoUrl(cache, path));
  expect(narInfo.status).toBe(200);
  expect(narInfo.headers.get("content-type")).toBe("text/x-nix-narinfo");
  expect(narInfo.headers.get("cache-control")).toBe("public, max-age=1");
  const text = await narInfo.text();
  expect(narInfo.headers.get("content-length")).toBe(String(text.length));
  const info = parseNarInfo(text);
  expect(info).toMatchObject({ storePath: path.storePath, narHash: path.narHash, compression: "zstd" });

  const nar = await ask(`${ORIGIN}/cache/${cache.name}/${info.url}`);
  expect(nar.status).toBe(200);
  expect(Object.fromEntries(nar.headers)).toEqual({
    "content-type": "application/x-nix-nar",
    "x-content-type-options": "nosniff",
    "content-length": String(path.nar.fileSize),
    "accept-ranges": "bytes",
    "cache-control": "public, max-age=31536000, immutable",
    etag: `"${encodeBase32(path.nar.fileHash.digest)}"`,
  });
  expect(await bodyOf(nar)).toHaveLength(path.nar.fileSize);
});

test("nix-cache-info says what Nix wants to know, with another priority for the operator's networks", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const info = `${ORIGIN}/cache/${cache.name}/nix-cache-info`;
  const everybody = await asking(bench)(info);
  expect(await everybody.text()).toBe("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n");
  expect(everybody.headers.get("content-type")).toBe("text/x-nix-cache-info");

  await bench.deps.db.updateTable("cache").set({ local_priority: 10 }).execute();
  const isLocalClient = (request: Request) => request.headers.get("x-test") === "local";
  const ask = asking(bench, { isLocalClient });
  expect(await (await ask(info, { headers: { "x-test": "local" } })).text()).toContain("Priority: 10\n");
  const far = await ask(info);
  expect(await far.text()).toContain("Priority: 40\n");
  expect(far.headers.get("cache-control")).toBe("private, no-store");
});

test("HEAD answers with the headers of GET and no body", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const ask = asking(bench);
  for (const url of [`${ORIGIN}/cache/${cache.name}/nix-cache-info`, narInfoUrl(cache, path), narUrl(cache, path)]) {
    const get = await ask(url);
    const head = await ask(url, { method: "HEAD" });
    expect(head.status).toBe(200);
    expect([...head.headers]).toEqual([...get.headers]);
    expect(head.body).toBeNull();
    await get.body?.cancel();
  }
  const missing = await ask(narInfoUrl(cache, await storeFile(bench, "missing")), { method: "HEAD" });
  expect([missing.status, missing.body]).toEqual([404, null]);
});

test("who has an answer already is told that it has not changed", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const ask = asking(bench);
  for (const url of [narInfoUrl(cache, path), narUrl(cache, path)]) {
    const first = await ask(url);
    await first.body?.cancel();
    const etag = first.headers.get("etag") as string;
    const again = await ask(url, { headers: { "if-none-match": etag } });
    expect([again.status, again.body, again.headers.get("etag")]).toEqual([304, null, etag]);
  }
});

test("a download that broke off is resumed with a range", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench, randomContent(2_000_000));
  const ask = asking(bench);
  const url = narUrl(cache, path);
  const whole = await bodyOf(await ask(url));
  const size = path.nar.fileSize;

  const rest = await ask(url, { headers: { range: "bytes=600000-" } });
  expect(rest.status).toBe(206);
  expect(rest.headers.get("content-range")).toBe(`bytes 600000-${size - 1}/${size}`);
  expect(rest.headers.get("content-length")).toBe(String(size - 600_000));
  expect(Buffer.compare(concatBytes([whole.subarray(0, 600_000), await bodyOf(rest)]), whole)).toBe(0);

  const beyond = await ask(url, { headers: { range: `bytes=${size}-` } });
  expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, `bytes */${size}`]);
  const other = await ask(url, { headers: { range: "bytes=600000-", "if-range": '"another"' } });
  expect(other.status).toBe(200);
  await other.body?.cancel();
});

test("below /cache everything else is 404 or 405, and nothing else is the surface's", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const surface = bench.surface();
  const ask = asking(bench);
  const hash = storePathHash(path.storePath);
  for (const rest of [
    "",
    "/",
    "/nix-cache-info/",
    "/nar/",
    `/${hash}.narinfo.`,
    `/${hash.slice(1)}.narinfo`,
    "/nar/..%2f..%2f..%2fetc%2fpasswd",
    `/nar/${"0".repeat(52)}.nar.xz`,
    `/${path.nar.objectKey}`,
    "/log/x.drv",
  ]) {
    expect((await ask(`${ORIGIN}/cache/${cache.name}${rest}`)).status, rest).toBe(404);
  }
  for (const method of ["PUT", "POST", "DELETE", "OPTIONS", "PATCH"]) {
    const response = await ask(narInfoUrl(cache, path), { method });
    expect([response.status, response.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  }
  for (const elsewhere of ["/", "/cache", "/caches/x", "/api/v1/caches"]) {
    expect(await surface(new Request(`${ORIGIN}${elsewhere}`))).toBeNull();
  }
});

test("names are checked before the database is asked", async () => {
  await using bench = await withCacheBench();
  const ask = asking(bench);
  await bench.database[Symbol.asyncDispose]();
  expect((await ask(`${ORIGIN}/cache/Main/nix-cache-info`)).status).toBe(404);
  expect((await ask(`${ORIGIN}/cache/main/nar/../nix-cache-info%00`)).status).toBe(404);
  expect(bench.logged).toEqual([]);
});

test("a database that is away makes no 5xx of a path", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const ask = asking(bench);
  await bench.database.db.destroy();
  expect((await ask(narInfoUrl(cache, path))).status).toBe(404);
  expect((await ask(narUrl(cache, path))).status).toBe(404);
  expect((await ask(`${ORIGIN}/cache/${cache.name}/nix-cache-info`)).status).toBe(503);
  expect(bench.logged).toHaveLength(3);
});

test("to an anonymous client a private, an inactive and a missing cache are the same", async () => {
  await using bench = await withCacheBench();
  const secret = await bench.makeCache({ public: false });
  const inactive = await bench.makeCache({ active: false });
  const path = await storeFile(bench, "path");
  await bench.commit([secret.id, inactive.id], [path]);
  const ask = asking(bench, { canReadCache: async () => true });

  const answers = new Set<string>();
  for (const name of [secret.name, inactive.name, "no-such-cache"]) {
    const cache = { ...secret, name };
    for (const url of [`${ORIGIN}/cache/${name}/nix-cache-info`, narInfoUrl(cache, path), narUrl(cache, path)]) {
      const response = await ask(url);
      answers.add(JSON.stringify([response.status, [...response.headers], await response.text()]));
    }
  }
  expect(answers.size).toBe(1);
  const [answer] = [...answers];
  expect(answer).toContain("401");
  expect(answer).toContain('Basic realm=\\"gradient\\"');
});

test("to a signed-in stranger a private cache looks like one that does not exist", async () => {
  await using bench = await withCacheBench();
  const secret = await bench.makeCache({ public: false });
  const path = await storeFile(bench, "path");
  await bench.commit([secret.id], [path]);
  const ask = asking(bench, { authenticate: async () => SIGNED_IN });

  const hidden = await ask(narInfoUrl(secret, path));
  const missing = await ask(narInfoUrl({ ...secret, name: "no-such-cache" }, path));
  expect([hidden.status, await hidden.text()]).toEqual([404, await missing.text()]);
  expect([...hidden.headers]).toEqual([...missing.headers]);
});

test("who may read a private cache gets it, and nobody on the way may keep it", async () => {
  await using bench = await withCacheBench();
  const [secret, other] = [await bench.makeCache({ public: false }), await bench.makeCache({ public: false })];
  const inactive = await bench.makeCache({ public: false, active: false });
  const path = await storeFile(bench, "path");
  await bench.commit([secret.id, inactive.id], [path]);
  const ask = asking(bench, {
    authenticate: async (request) => (request.headers.has("authorization") ? SIGNED_IN : null),
    canReadCache: async (actor, cache) => actor === SIGNED_IN && cache.id !== other.id,
  });
  const init = { headers: { authorization: "Basic eDp5" } };

  for (const url of [narInfoUrl(secret, path), narUrl(secret, path)]) {
    const response = await ask(url, init);
    expect([response.status, response.headers.get("cache-control")]).toEqual([200, "private, no-store"]);
    await response.body?.cancel();
    expect((await ask(url)).status).toBe(401);
  }
  expect((await ask(narInfoUrl(inactive, path), init)).status).toBe(404);
  expect((await ask(narInfoUrl(other, path), init)).status).toBe(404);
});

test("a NAR is only served by a cache that names it", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const [other, unnamed] = [await bench.makeCache(), await storeFile(bench, "unnamed")];
  const ask = asking(bench);
  expect((await ask(narUrl(other, path))).status).toBe(404);
  expect((await ask(narUrl(cache, unnamed))).status).toBe(404);
});

test("a narinfo is looked up once, and again after its path has changed", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const ask = asking(bench);
  const before = await (await ask(narInfoUrl(cache, path))).text();
  const sign = (signatures: string[]) => bench.deps.db.updateTable("cache_path").set({ signatures }).execute();
  await sign(["other-1:AAAA"]);
  expect(await (await ask(narInfoUrl(cache, path))).text()).toBe(before);

  announceCommit(bench.deps.notifier, await bench.commit([cache.id], [path]));
  await new Promise((resolve) => setImmediate(resolve));
  const after = await (await ask(narInfoUrl(cache, path))).text();
  expect(after).toContain("Sig: other-1:AAAA\n");
  expect(parseNarInfo(after).signatures).toHaveLength(2);
});

test("a crowd that comes at once is one look-up of the cache, and few of its paths", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const paths = await Promise.all(Array.from({ length: 40 }, (_, i) => storeFile(bench, `path-${i}`)));
  await bench.commit([cache.id], paths);
  let queries = 0;
  const db = new Proxy(bench.deps.db, {
    get(target, name) {
      if (name === "selectFrom") queries++;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const ask = asking(bench, { db });

  const answers = await Promise.all(paths.map((path) => ask(narInfoUrl(cache, path))));

  for (const [i, answer] of answers.entries()) {
    expect(await answer.text()).toContain(`StorePath: ${paths[i]?.storePath}\n`);
  }
  expect(queries).toBeLessThanOrEqual(4);
});

test("a cache that is made private is closed as soon as that is announced, and soon when it is not", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  let ms = 0;
  const clock = { ...bench.deps.clock, monotonic: () => ms };
  const [announced, deaf] = [asking(bench, { clock }), asking(bench, { clock, notifier: localNotifier() })];
  for (const ask of [announced, deaf]) expect((await ask(narInfoUrl(cache, path))).status).toBe(200);
  await bench.deps.db.updateTable("cache").set({ public: false }).execute();
  bench.deps.notifier.notify("path", `${cache.id}/`);
  await new Promise((resolve) => setImmediate(resolve));

  expect((await announced(narInfoUrl(cache, path))).status).toBe(401);
  expect((await deaf(narInfoUrl(cache, path))).status).toBe(200);
  ms = 5_000;
  expect((await deaf(narInfoUrl(cache, path))).status).toBe(401);
});

test("a server that has missed wake-ups forgets also who may read what", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const ask = asking(bench);
  expect((await ask(narInfoUrl(cache, path))).status).toBe(200);
  await bench.deps.db.updateTable("cache").set({ public: false }).execute();

  bench.deps.notifier.notify("missed", "");
  await new Promise((resolve) => setImmediate(resolve));

  expect((await ask(narInfoUrl(cache, path))).status).toBe(401);
});

test("a cache that is announced as changed while it is looked up is looked up again", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const handlers: ((subject: string) => void)[] = [];
  const notifier: Notifier = {
    notify: () => {},
    subscribe(_topic, handler) {
      handlers.push(handler);
      return () => {};
    },
  };
  const ask = asking(bench, { notifier });
  const first = ask(narInfoUrl(cache, path));
  for (const handler of handlers) handler(`${cache.id}/`);
  expect((await first).status).toBe(200);
  await bench.deps.db.updateTable("cache").set({ public: false }).execute();
  expect((await ask(narInfoUrl(cache, path))).status).toBe(401);
});

test("an unread body lets go of its file", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench, randomContent(2_000_000));
  let closed = 0;
  const { blobs } = bench.deps;
  const counting: typeof blobs = {
    ...blobs,
    async get(key, range) {
      const blob = await blobs.get(key, range);
      if (!blob) return null;
      async function* body() {
        try {
          yield* (blob as NonNullable<typeof blob>).body;
        } finally {
          closed++;
        }
      }
      return { ...blob, body: body() };
    },
  };
  const ask = asking(bench, { blobs: counting });
  for (const headers of [{}, { range: "bytes=10-" }])
    await (await ask(narUrl(cache, path), { headers })).body?.cancel();
  expect(closed).toBe(2);
});

test("errors are said in the envelope of the API", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const missing = await asking(bench)(narInfoUrl(cache, await storeFile(bench, "missing")));
  expect(JSON.parse(fromUtf8(await bodyOf(missing)))).toEqual({ error: true, code: "not_found", message: "Not Found" });
  expect(missing.headers.get("cache-control")).toBe("no-store");
});
