import { createHash } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createUpstreamRelay } from "#core/http/upstream-relay.ts";
import { toHex } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import { fingerprint, type PublicKey, parsePublicKey, verify } from "#core/nix/signature.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import type { Compression } from "#core/ports/codec.ts";
import type { Outbound } from "#core/ports/outbound.ts";
import { UpstreamRelay } from "#core/services/upstream-relay.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "#test/support/nix.ts";
import { buildIn, type Fault, type UpstreamCache, withUpstreamCache } from "#test/support/upstream-cache.ts";
import { countedQueries } from "./counted-queries.ts";
import { bodyOf, type CacheBench, newId, SIGNED_IN, storeFile, type TestCache, withCacheBench } from "./support.ts";

const nix = nixAvailable();
const ORIGIN = "https://cache.example.org";
const FORMS = ["xz", "zstd", "gzip", "br", "none"];

/** Of several chunks when they travel, but for the small one. */
function scriptOf(name: string): string {
  if (name === "small") return "echo small > $out";
  if (name === "random") return "head -c 400000 /dev/urandom > $out";
  return `for i in $(seq 60000); do echo ${name} $i; done > $out`;
}

type Ask = (cache: TestCache, path: string, init?: RequestInit) => Promise<Response>;

describe.skipIf(!nix.ok)(`what a cache answers for its upstreams${nix.ok ? "" : ` (skipped: ${nix.reason})`}`, () => {
  let daemon: NixDaemon;
  let upstream: UpstreamCache;
  let bench: CacheBench;
  let cache: TestCache;
  let ask: Ask;
  const paths: Record<string, StorePath> = {};

  beforeAll(async () => {
    daemon = await withNixDaemon();
    upstream = await withUpstreamCache(daemon.folder);
    for (const name of [...FORMS, "small", "random"]) {
      const expression = `derivation {
        name = "${name}"; system = builtins.currentSystem; PATH = "/usr/bin:/bin";
        builder = "/bin/sh"; args = [ "-c" "${scriptOf(name).replaceAll("$", "\\$")}" ]; }`;
      paths[name] = (await buildIn(daemon, expression)) as StorePath;
      const form = name === "small" ? "none" : name === "random" ? "zstd" : name;
      await upstream.copy(daemon, [paths[name]], form);
    }
    bench = await withCacheBench();
  }, 60_000);
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    cache = await bench.makeCache();
    await rest(cache, upstream.url);
    ask = server();
    upstream.fault = () => null;
    upstream.requests.length = 0;
    upstream.headers.length = 0;
    bench.logged.length = 0;
  });

  async function rest(on: TestCache, url: string, more: object = {}): Promise<string> {
    const keys = { public_keys: [upstream.publicKey] };
    const row = { id: newId(), cache_id: on.id, kind: 2, display_name: "Other", url, ...keys, ...more };
    await bench.deps.db.insertInto("cache_upstream").values(row).execute();
    return row.id;
  }

  async function keepWhatPasses(): Promise<void> {
    await bench.deps.db.updateTable("cache").set({ pull_through: true }).where("id", "=", cache.id).execute();
  }

  /** A server that remembers nothing of other tests. */
  function server({
    outbound = bench.deps.outbound,
    blobs = bench.deps.blobs,
    viaName = "cache.example.org",
    db = bench.deps.db,
  } = {}): Ask {
    const deps = { ...bench.deps, outbound, blobs, viaName, db };
    const upstreams = new Upstreams(deps);
    const relay = createUpstreamRelay(new UpstreamRelay({ ...deps, upstreams, secretKeyOf: bench.secretKeyOf }));
    const surface = bench.surface({ relay, blobs, db });
    return async (of, path, init) => {
      const response = await surface(new Request(`${ORIGIN}/cache/${of.name}/${path}`, init));
      if (!response) throw new Error(`${path} is not the surface's`);
      return response;
    };
  }

  function narInfoOf(path: string | undefined): string {
    return `${path?.slice(11, 43)}.narinfo`;
  }

  async function narInfo(name: string) {
    const response = await ask(cache, narInfoOf(paths[name]));
    expect(response.status).toBe(200);
    return parseNarInfo(await response.text());
  }

  async function sha256OfNar(response: Response, compression: string): Promise<string> {
    const nar = nodeCodec.decompress(compression as Compression, streamOf(await bodyOf(response)));
    const bytes = await collect(nar ?? streamOf(), 10_000_000);
    return createHash("sha256").update(bytes).digest("hex");
  }

  test.each(FORMS)(
    "a narinfo is signed by the cache and tells nothing of the upstream; its file is the NAR: %s",
    async (form) => {
      const info = await narInfo(form);
      const theirs = parseNarInfo(await upstream.narInfo(paths[form] as string));
      expect({ ...info, url: null, signatures: null }).toEqual({ ...theirs, url: null, signatures: null });
      expect(info.url).toMatch(/^nar\/upstream\/[0-9a-f-]{36}\/[0-9a-z]{32}-[0-9a-z]{52}\.nar(\.[a-z]+)?$/);
      const key = parsePublicKey(cache.publicKey) as PublicKey;
      expect(await verify(key, fingerprint(info), info.signatures[0] ?? "")).toBe(true);
      expect(info.signatures.slice(1)).toEqual(theirs.signatures);
      const file = await ask(cache, info.url);
      expect(Number(file.headers.get("content-length"))).toBe(theirs.fileSize);
      expect(await sha256OfNar(file, form)).toBe(toHex(info.narHash.digest));
      const head = await ask(cache, info.url, { method: "HEAD" });
      expect([head.status, head.body, Number(head.headers.get("content-length"))]).toEqual([
        200,
        null,
        theirs.fileSize,
      ]);
    },
  );

  test("what the cache has itself is answered without a look at upstreams", async () => {
    const own = await storeFile(bench, "own");
    await bench.commit([cache.id], [own]);
    expect((await ask(cache, narInfoOf(own.storePath))).status).toBe(200);
    expect(upstream.requests).toEqual([]);
  });

  test("what the cache is told not to take it does not pass on either", async () => {
    const { url } = await narInfo("xz");
    const hash = paths.xz?.slice(11, 43) as string;
    await bench.deps.db.insertInto("blocked_path").values({ cache_id: cache.id, hash, reason: "bad" }).execute();
    bench.deps.notifier.notify("path", `${cache.id}/${hash}`);
    await expect.poll(async () => (await ask(cache, narInfoOf(paths.xz))).status).toBe(404);
    expect((await ask(cache, url)).status).toBe(404);
    expect((await ask(cache, url, { method: "HEAD" })).status).toBe(404);
  });

  test("names that no narinfo gave out lead nowhere", async () => {
    const { url } = await narInfo("xz");
    const other = await narInfo("zstd");
    const stranger = await bench.makeCache();
    const [, hash] = /\/([0-9a-z]{32})-/.exec(url) ?? [];
    const [, otherNar] = /-([0-9a-z]{52})\.nar/.exec(other.url) ?? [];
    const forged = [
      url.replace(/-[0-9a-z]{52}\./, `-${otherNar}.`),
      url.replace(/[0-9a-z]{32}-/, `${"0".repeat(32)}-`),
      url.replace(".xz", ".br"),
      url.replace(".xz", ".lz"),
      `${url}?x=http://127.0.0.1/`,
      `nar/upstream/${newId()}/nar/${hash}.nar.xz`,
      `nar/upstream/${newId()}/http://127.0.0.1:1/x`,
      `nar/upstream/${newId()}/..%2f${hash}.nar.xz`,
    ];
    upstream.requests.length = 0;
    for (const name of forged) expect([name, (await ask(cache, name)).status]).toEqual([name, 404]);
    expect((await ask(stranger, url)).status).toBe(404);
    expect(upstream.requests.filter((path) => path.startsWith("/nar/"))).toEqual([]);
  });

  test("a private cache's answers stay private", async () => {
    const secret = await bench.makeCache({ public: false });
    await rest(secret, upstream.url);
    const info = await narInfo("xz");
    for (const path of [narInfoOf(paths.xz), info.url]) expect((await ask(secret, path)).status).toBe(401);
    const relay = createUpstreamRelay(new UpstreamRelay({ ...bench.deps, secretKeyOf: bench.secretKeyOf }));
    const surface = bench.surface({ relay, authenticate: async () => SIGNED_IN, canReadCache: async () => true });
    for (const path of [narInfoOf(paths.xz), info.url]) {
      const response = await surface(new Request(`${ORIGIN}/cache/${secret.name}/${path}`));
      expect([response?.status, response?.headers.get("cache-control")]).toEqual([200, "private, no-store"]);
    }
  });

  const WRONG: [string, Fault][] = [
    ["a flipped byte", "flip"],
    ["another file", { replace: [/^.*$/s, "nonsense"] }],
  ];
  test.each(WRONG)("%s is cut off before its end, and the path is not there from then on", async (_, fault) => {
    for (const form of ["xz", "none", "small"]) {
      const info = await narInfo(form);
      upstream.fault = (path) => (path.startsWith("/nar/") ? fault : null);
      const response = await ask(cache, info.url);
      if (response.status === 200) await expect(bodyOf(response)).rejects.toThrow();
      else expect(response.status).toBe(404);
      upstream.fault = () => null;
      await expect.poll(async () => (await ask(cache, narInfoOf(paths[form]))).status).toBe(404);
      expect(bench.logged).toContain("an upstream has lost a path");
    }
  });

  test("nothing of a file of one chunk comes when it is wrong", async () => {
    const info = await narInfo("small");
    upstream.fault = (path) => (path.startsWith("/nar/") ? "flip" : null);
    expect((await ask(cache, info.url)).status).toBe(404);
  });

  test("never a whole body that is wrong, wherever the byte was flipped", async () => {
    const info = await narInfo("none");
    const file = await bodyOf(await ask(cache, info.url));
    upstream.fault = (path) => (path.startsWith("/nar/") ? "flip" : null);
    const response = await ask(cache, info.url);
    const got: Uint8Array[] = [];
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    const read = async () => {
      for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
        got.push(value as Uint8Array);
      }
    };
    await expect(read()).rejects.toThrow();
    expect(got.reduce((sum, chunk) => sum + chunk.length, 0)).toBeLessThan(file.length);
  });

  const PASSING: [string, Fault][] = [
    ["status 500", { status: 500 }],
    ["a body that is cut off", "cut"],
    ["a body that stalls", "stall"],
    ["a length that is too long", "long"],
    ["an answer that never comes", "slow"],
    ["a redirect to where nobody may go", { redirect: "http://169.254.169.254/" }],
  ];
  test.each(PASSING)("%s is no whole file, and the path stays", async (_, fault) => {
    const hasty: Outbound = {
      get: (url, options) => bench.deps.outbound.get(url, { ...options, timeoutMs: 400, idleTimeoutMs: 200 }),
    };
    ask = server({ outbound: hasty });
    const info = await narInfo("none");
    upstream.fault = (path) => (path.startsWith("/nar/") ? fault : null);
    const response = await ask(cache, info.url);
    if (response.status === 200) await expect(bodyOf(response)).rejects.toThrow();
    else expect(response.status).toBe(404);
    upstream.fault = () => null;
    ask = server();
    expect(await sha256OfNar(await ask(cache, info.url), "none")).toBe(toHex(info.narHash.digest));
  });

  test("a file that is longer than its length says is no whole file", async () => {
    const info = await narInfo("none");
    upstream.fault = (path) => (path.startsWith("/nar/") ? "short" : null);
    const response = await ask(cache, info.url);
    if (response.status === 200) await expect(bodyOf(response)).rejects.toThrow();
    else expect(response.status).toBe(404);
  });

  test("a redirect to where one may go is followed", async () => {
    const info = await narInfo("xz");
    const theirs = parseNarInfo(await upstream.narInfo(paths.xz as string));
    upstream.fault = (path) =>
      path === `/${theirs.url}` && upstream.requests.filter((one) => one === path).length < 2
        ? { redirect: `${upstream.url}/${theirs.url}` }
        : null;
    expect(await sha256OfNar(await ask(cache, info.url), "xz")).toBe(toHex(info.narHash.digest));
    expect(upstream.requests.filter((path) => path === `/${theirs.url}`)).toHaveLength(2);
  });

  test("a narinfo whose file is where nobody may go: the address is refused", async () => {
    upstream.fault = (path) =>
      path.endsWith(".narinfo") ? { replace: [/URL: .*/, "URL: http://169.254.169.254/latest/meta-data"] } : null;
    const info = await narInfo("xz");
    upstream.fault = () => null;
    expect((await ask(cache, info.url)).status).toBe(404);
  });

  test("a file hash in BLAKE3 is checked, and not passed on to clients that do not know it", async () => {
    const hash = await bench.deps.hasher.blake3();
    const theirs = parseNarInfo(await upstream.narInfo(paths.xz as string));
    const file = await fetch(`${upstream.url}/${theirs.url}`);
    hash.update(new Uint8Array(await file.arrayBuffer()));
    const right = toHex(hash.digest());
    const says = (digest: string) => {
      upstream.fault = (path) =>
        path.endsWith(".narinfo") ? { replace: [/FileHash: .*/, `FileHash: blake3:${digest}`] } : null;
    };
    says(right);
    const info = await narInfo("xz");
    expect(info.fileHash).toBeNull();
    expect(await sha256OfNar(await ask(cache, info.url), "xz")).toBe(toHex(info.narHash.digest));
    await bench.deps.db.deleteFrom("upstream_path").execute();
    ask = server();
    says(right.replace(/^./, (digit) => (digit === "0" ? "1" : "0")));
    const response = await ask(cache, (await narInfo("xz")).url);
    if (response.status === 200) await expect(bodyOf(response)).rejects.toThrow();
    else expect(response.status).toBe(404);
  });

  test("the database is asked once for all who come together, and each gets its own answer", async () => {
    const hash = paths.gzip?.slice(11, 43) as string;
    await bench.deps.db.insertInto("blocked_path").values({ cache_id: cache.id, hash, reason: "bad" }).execute();
    await narInfo("xz");
    const queries = countedQueries(bench.deps.db);
    ask = server({ db: queries.db });
    const asked = [...Array.from({ length: 100 }, (_, index) => String(index).padStart(32, "0")), hash];
    const found = ["xz", "br"].map((name) => paths[name]?.slice(11, 43) as string);
    const answers = await Promise.all([...asked, ...found].map((one) => ask(cache, `${one}.narinfo`)));
    expect(new Set(answers.slice(0, asked.length).map(({ status }) => status))).toEqual(new Set([404]));
    const names = answers.slice(asked.length).map(async (answer) => parseNarInfo(await answer.text()).storePath);
    expect(await Promise.all(names)).toEqual([paths.xz, paths.br]);
    expect(queries.count()).toBeLessThan(30);
  });

  test("a miss is remembered for an hour, but not that an upstream did not answer", async () => {
    const nowhere = `${"0".repeat(32)}.narinfo`;
    expect((await ask(cache, nowhere)).status).toBe(404);
    expect((await ask(cache, nowhere)).status).toBe(404);
    expect(upstream.requests).toHaveLength(1);
    const recorded = bench.deps.db.selectFrom("upstream_path").select("hash").where("hash", "=", "0".repeat(32));
    expect(await recorded.execute()).toEqual([]);
    upstream.fault = () => ({ status: 500 });
    expect((await ask(cache, narInfoOf(paths.xz))).status).toBe(404);
    upstream.fault = () => null;
    expect((await ask(cache, narInfoOf(paths.xz))).status).toBe(200);
  });

  test("hits are served while every upstream is silent, and a miss waits no longer than its time", async () => {
    const own = await storeFile(bench, "own");
    await bench.commit([cache.id], [own]);
    ask = server({ outbound: { get: () => new Promise(() => {}) } });
    const startedAt = performance.now();
    const miss = ask(cache, narInfoOf(paths.xz));
    expect((await ask(cache, narInfoOf(own.storePath))).status).toBe(200);
    expect((await ask(cache, `nar/${own.nar.objectKey.slice(4, 56)}.nar.zst`)).status).toBe(404);
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect((await miss).status).toBe(404);
    expect(performance.now() - startedAt).toBeLessThan(6_000);
  }, 10_000);

  test("what passes is kept where the cache says so, and serves when the upstream is gone", async () => {
    await keepWhatPasses();
    const infos = [];
    for (const form of FORMS) {
      const info = await narInfo(form);
      expect([info.compression, info.fileHash]).toEqual(["zstd", form === "zstd" ? expect.anything() : null]);
      expect(await sha256OfNar(await ask(cache, info.url), "zstd")).toBe(toHex(info.narHash.digest));
      infos.push(info);
    }
    upstream.fault = () => ({ status: 500 });
    ask = server();
    for (const [index, form] of FORMS.entries()) {
      const info = await narInfo(form);
      expect(info.url).toMatch(/^nar\/[0-9a-z]{52}\.nar\.zst$/);
      // The name that was given out before goes on leading to it.
      for (const url of [info.url, infos[index]?.url ?? ""]) {
        expect(await sha256OfNar(await ask(cache, url), "zstd")).toBe(toHex(info.narHash.digest));
      }
    }
  });

  test("nothing that is wrong is kept, nor what its reader gave up", async () => {
    await keepWhatPasses();
    const files = await bench.objectFiles();
    const wrong = await narInfo("gzip");
    upstream.fault = (path) => (path.startsWith("/nar/") ? "flip" : null);
    const response = await ask(cache, wrong.url);
    if (response.status === 200) await expect(bodyOf(response)).rejects.toThrow();
    upstream.fault = () => null;
    const given = await ask(cache, (await narInfo("none")).url);
    await given.body?.cancel();
    await expect.poll(() => bench.objectFiles()).toEqual(files);
    expect(
      await bench.deps.db.selectFrom("cache_path").select("hash").where("cache_id", "=", cache.id).execute(),
    ).toEqual([]);
  });

  test("a store that takes nothing costs nobody what passes", async () => {
    await keepWhatPasses();
    const full: BlobStore = { ...bench.deps.blobs, put };
    async function put(_key: string, body: AsyncIterable<Uint8Array>): Promise<never> {
      for await (const _ of body) break;
      throw new Error("no space left");
    }
    ask = server({ blobs: full });
    const info = await narInfo("random");
    expect(await sha256OfNar(await ask(cache, info.url), "zstd")).toBe(toHex(info.narHash.digest));
    expect(bench.logged).toContain("what passed from an upstream was not kept");
  });

  test("two caches that rest on each other do not ask each other for ever", async () => {
    const response = await ask(cache, narInfoOf(paths.xz), { headers: { via: "1.1 other, 1.1 cache.example.org" } });
    expect([response.status, upstream.requests]).toEqual([404, []]);
    expect((await ask(cache, narInfoOf(paths.xz), { headers: { via: "1.1 other" } })).status).toBe(200);
    expect(upstream.headers[0]?.via).toBe("1.1 other, 1.1 cache.example.org");
  });

  test("an upstream that asks back before it answers is answered at once, and so are we", async () => {
    const asked: number[] = [];
    const outbound: Outbound = {
      ...bench.deps.outbound,
      async get(url, options) {
        const headers = { via: options.headers?.via ?? "" };
        asked.push((await ask(cache, narInfoOf(paths.xz), { headers })).status);
        return await bench.deps.outbound.get(url, options);
      },
    };
    ask = server({ outbound });
    expect((await ask(cache, narInfoOf(paths.xz))).status).toBe(200);
    expect(asked).toEqual([404]);
  });

  test("a log that an upstream keeps is shown", async () => {
    const derivation = `${"0".repeat(32)}-x.drv`;
    expect((await ask(cache, `log/${derivation}`)).status).toBe(404);
    expect(upstream.requests).toEqual([`/log/${derivation}`]);
  });

  test("an unsigned fixed output is passed on without the cache's signature", async () => {
    await narInfo("xz");
    await bench.deps.db.updateTable("upstream_path").set({ signed: false }).execute();
    ask = server();
    const info = await narInfo("xz");
    expect(info.signatures.some((signature) => signature.startsWith(cache.publicKey.split(":")[0] ?? ""))).toBe(false);
  });
});
