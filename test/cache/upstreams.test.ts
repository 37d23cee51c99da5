import { createHash } from "node:crypto";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { DEFAULT_RETRY_POLICY } from "#core/domain/failure.ts";
import { toHex } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { makeSourcePath, type StorePath } from "#core/nix/store-path.ts";
import { Deliveries, type Delivery } from "#core/services/deliveries.ts";
import { storeObject } from "#core/services/nar-receive.ts";
import { openUpstreamPath } from "#core/services/upstream-open.ts";
import { tidyUpstreams } from "#core/services/upstream-review.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "#test/support/nix.ts";
import { buildIn, type Fault, type UpstreamCache, withUpstreamCache } from "#test/support/upstream-cache.ts";
import { decompress } from "#worker/codec.ts";
import {
  type CacheBench,
  fileNar,
  narHashOf,
  newId,
  randomContent,
  type TestCache,
  withCacheBench,
} from "./support.ts";

const nix = nixAvailable();
const NOWHERE = "http://no-such-host.invalid";

describe.skipIf(!nix.ok)(`upstreams of a cache${nix.ok ? "" : ` (skipped: ${nix.reason})`}`, () => {
  let daemon: NixDaemon;
  let upstream: UpstreamCache;
  let bench: CacheBench;
  let cache: TestCache;
  const paths: Record<string, StorePath> = {};

  beforeAll(async () => {
    daemon = await withNixDaemon();
    upstream = await withUpstreamCache(daemon.folder);
    for (const compression of ["xz", "zstd", "gzip", "br", "none", "bzip2"]) {
      const script = `for i in $(seq 20000); do echo ${compression} $i; done > $out`;
      const expression = `derivation {
        name = "${compression}"; system = builtins.currentSystem; PATH = "/usr/bin:/bin";
        builder = "/bin/sh"; args = [ "-c" "${script.replaceAll("$", "\\$")}" ]; }`;
      paths[compression] = (await buildIn(daemon, expression)) as StorePath;
      await upstream.copy(daemon, [paths[compression]], compression);
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
    await rest(upstream.url);
    upstream.fault = () => null;
    upstream.requests.length = 0;
    bench.logged.length = 0;
  });

  /** Adds an upstream to the cache of this test. */
  async function rest(url: string, publicKey = upstream.publicKey): Promise<string> {
    const row = { id: newId(), cache_id: cache.id, kind: 2, display_name: "Other", url, public_keys: [publicKey] };
    await bench.deps.db.insertInto("cache_upstream").values(row).execute();
    return row.id;
  }

  /** A server that remembers nothing of other tests. */
  function server(): Upstreams {
    return new Upstreams(bench.deps);
  }

  async function find(...names: string[]): Promise<{ found: string[]; unknown: string[] }> {
    const asked = names.map((name) => paths[name] ?? (name as StorePath));
    const { found, unknown } = await server().find([cache.id], asked);
    const named = (all: Iterable<string>) => [...all].map((path) => path.slice(44)).sort();
    return { found: named(found.keys()), unknown: named(unknown) };
  }

  async function age(interval: string): Promise<void> {
    await sql`update upstream_path set seen_at = seen_at - ${interval}::interval`.execute(bench.deps.db);
  }

  const NOT_THERE = `/nix/store/${"0".repeat(32)}-not-there`;

  test("what Nix wrote and signed is found, and asked for once a day; a miss once an hour", async () => {
    const both = ["xz", "zstd", NOT_THERE];
    expect(await find(...both)).toEqual({ found: ["xz", "zstd"], unknown: [] });
    expect(upstream.requests).toHaveLength(3);
    expect(await find(...both)).toEqual({ found: ["xz", "zstd"], unknown: [] });
    expect(upstream.requests).toHaveLength(3);
    await age("59 minutes");
    await find(...both);
    expect(upstream.requests).toHaveLength(3);
    await age("2 minutes");
    await find(...both);
    expect(upstream.requests).toHaveLength(4);
    await age("23 hours");
    expect(await find(...both)).toEqual({ found: ["xz", "zstd"], unknown: [] });
    expect(upstream.requests).toHaveLength(7);
  });

  test("an answer is removed when it counts no more: a miss after an hour, a find after a month", async () => {
    const count = async () => {
      await tidyUpstreams(bench.deps, server());
      const own = bench.deps.db.selectFrom("cache_upstream").select("id").where("cache_id", "=", cache.id);
      return (await bench.deps.db.selectFrom("upstream_path").select("hash").where("upstream_id", "in", own).execute())
        .length;
    };
    await find("xz", NOT_THERE);
    expect(await count()).toBe(2);
    await age("61 minutes");
    expect(await count()).toBe(1);
    await age("29 days");
    expect(await count()).toBe(1);
    await age("1 day");
    expect(await count()).toBe(0);
  });

  test("what is not signed by the upstream's keys is not there, and that is logged", async () => {
    const key = "upstream-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
    await bench.deps.db
      .updateTable("cache_upstream")
      .set({ public_keys: [key] })
      .where("cache_id", "=", cache.id)
      .execute();
    expect(await find("xz")).toEqual({ found: [], unknown: [] });
    expect(bench.logged).toContain("what an upstream says of a path is ignored");
  });

  const LIES: [string, Fault][] = [
    ["another NAR hash", { replace: [/NarHash: sha256:./, "NarHash: sha256:1"] }],
    ["another size", { replace: [/NarSize: /, "NarSize: 1"] }],
    ["another reference", { replace: [/References: /, `References: ${NOT_THERE.slice(11)} `] }],
    ["another path", { replace: [/StorePath: .*/, `StorePath: ${NOT_THERE}`] }],
    ["a file elsewhere, by another scheme", { replace: [/URL: /, "URL: https://127.0.0.1/"] }],
    ["a content address that is not its own", { replace: [/Sig: .*/, `CA: fixed:r:sha256:${"0".repeat(52)}`] }],
  ];
  test.each(LIES)("a narinfo with %s is not believed", async (_, fault) => {
    upstream.fault = () => fault;
    expect(await find("xz")).toEqual({ found: [], unknown: [] });
    expect(bench.logged).toContain("what an upstream says of a path is ignored");
  });

  test("a narinfo that is right in everything but speaks of another path is not believed", async () => {
    const other = await upstream.narInfo(paths.zstd as string);
    upstream.fault = () => ({ replace: [/^.*$/s, other] });
    expect(await find("xz")).toEqual({ found: [], unknown: [] });
    expect(bench.logged).toContain("what an upstream says of a path is ignored");
  });

  test("a form that no worker reads counts as not there: it is built", async () => {
    upstream.fault = () => ({ replace: [/^Compression: bzip2$/m, "Compression: lzip"] });
    const found = await find("bzip2", "gzip", "br", "none");
    expect(found).toEqual({ found: ["br", "gzip", "none"], unknown: [] });
  });

  const FAILURES: [string, Fault][] = [
    ["status 500", { status: 500 }],
    ["status 429", { status: 429 }],
    ["a body that is cut off", "cut"],
    ["a page that is no narinfo", { replace: [/^.*$/s, "<html>Sign in to this network</html>"] }],
  ];
  test.each(FAILURES)("%s is no answer: neither found nor absent, and not recorded", async (_, fault) => {
    upstream.fault = () => fault;
    expect(await find("xz")).toEqual({ found: [], unknown: ["xz"] });
    upstream.fault = () => null;
    expect(await find("xz")).toEqual({ found: ["xz"], unknown: [] });
  });

  test("one failure in between costs a second try and nothing else", async () => {
    let asked = 0;
    upstream.fault = () => (asked++ === 0 ? { status: 503 } : null);
    expect(await find("xz")).toEqual({ found: ["xz"], unknown: [] });
  });

  test.each([403, 404, 410])("status %i is an answer: it is not there", async (status) => {
    upstream.fault = () => ({ status });
    expect(await find("xz")).toEqual({ found: [], unknown: [] });
    upstream.fault = () => null;
    expect(await find("xz")).toEqual({ found: [], unknown: [] });
  });

  /** Nothing but time would show that each was waited for: a thousand times 5 s, 16 at a time. */
  test("a name that nobody has costs a thousand paths no time, and hides nothing that another has", async () => {
    await rest(NOWHERE);
    const strangers = Array.from({ length: 999 }, (_, i) => `/nix/store/${String(i).padStart(32, "0")}-x`);
    const { found, unknown } = await find("xz", ...strangers);
    expect([found, unknown.length]).toEqual([["xz"], 999]);
    expect(bench.logged.filter((line) => line.startsWith("an upstream does not answer"))).toHaveLength(1);
  }, 10_000);

  test("an upstream that is silent is waited for once, and not at all where another has the path", async () => {
    await using silent = await withUpstreamCache(`${daemon.folder}/conf`);
    silent.fault = () => "slow";
    await rest(silent.url);
    const upstreams = server();
    const first = await upstreams.find([cache.id], [paths.xz as StorePath]);
    expect([first.found.size, bench.logged]).toEqual([1, []]);
    const strangers = Array.from({ length: 100 }, (_, i) => `/nix/store/${String(i).padStart(32, "0")}-y` as StorePath);
    expect((await upstreams.find([cache.id], strangers)).unknown.size).toBe(100);
    const asked = silent.requests.length;
    expect(asked).toBeLessThanOrEqual(1 + 16 + 5);
    expect((await upstreams.find([cache.id], strangers)).unknown.size).toBe(100);
    expect(silent.requests).toHaveLength(asked);
  }, 9_000);

  test.each(["xz", "zstd", "gzip", "bzip2", "br", "none"])(
    "a file comes as it is kept, and is the NAR that was signed: %s",
    async (name) => {
      const opened = await openUpstreamPath(
        { ...bench.deps, upstreams: server() },
        [cache.id],
        paths[name] as StorePath,
      );
      if (!opened) throw new Error("it was not opened");
      expect(opened.compression).toBe(name);
      const nar = decompress(opened.compression, opened.body);
      const bytes = await collect(nar ?? streamOf(), 10_000_000);
      expect(createHash("sha256").update(bytes).digest("hex")).toBe(toHex(opened.info.narHash.digest));
    },
  );

  test("a file that is gone makes its path absent at once", async () => {
    expect(await find("xz")).toEqual({ found: ["xz"], unknown: [] });
    upstream.fault = (path) => (path.startsWith("/nar/") ? { status: 404 } : null);
    const opened = await openUpstreamPath({ ...bench.deps, upstreams: server() }, [cache.id], paths.xz as StorePath);
    expect(opened).toBeNull();
    expect(await find("xz")).toEqual({ found: [], unknown: [] });
    expect(upstream.requests.filter((path) => path.endsWith(".narinfo"))).toHaveLength(1);
  });

  test("a file that cannot be had now is an error, and its path stays", async () => {
    upstream.fault = (path) => (path.startsWith("/nar/") ? { status: 502 } : null);
    const opening = openUpstreamPath({ ...bench.deps, upstreams: server() }, [cache.id], paths.xz as StorePath);
    await expect(opening).rejects.toThrow("answers with status 502");
    expect(await find("xz")).toEqual({ found: ["xz"], unknown: [] });
    upstream.fault = (path) => (path.startsWith("/nar/") ? "cut" : null);
    const cut = await openUpstreamPath({ ...bench.deps, upstreams: server() }, [cache.id], paths.xz as StorePath);
    await expect(collect(cut?.body ?? streamOf(), 10_000_000)).rejects.toThrow("cut off");
  });

  test("a reference that nobody has recorded is looked for once, before a delivery is refused", async () => {
    const organizationId = await bench.makeOrganization();
    await bench.makeInternalStore(organizationId);
    await bench.subscribe(organizationId, cache.id, 0);
    const { secretKeyOf } = bench;
    const deps = { ...bench.deps, upstreams: server(), secretKeyOf, retry: DEFAULT_RETRY_POLICY, leaseMs: 60_000 };
    const deliveries = new Deliveries(deps);
    const nar = await fileNar(randomContent(32));
    const narHash = await narHashOf(nar);
    const references = [paths.xz as StorePath];
    const path = { storePath: await makeSourcePath("rests", narHash.digest, references), narHash, references };
    const upload = { narHash, narSize: nar.length, compression: "none", body: streamOf(nar) } as const;
    const object = await storeObject(deps, upload);
    const delivery: Delivery = {
      paths: [{ target: "output", path: { ...path, deriver: null, ca: null }, object }],
      result: null,
    };
    upstream.fault = () => ({ status: 404 });
    await expect(deliveries.add(organizationId, delivery)).rejects.toThrow(
      "which neither this cache nor an upstream of it holds",
    );
    await age("2 hours");
    upstream.fault = () => null;
    expect(await deliveries.add(organizationId, delivery)).toBe("recorded");
    expect(upstream.requests).toHaveLength(2);
  });

  test("without upstreams nothing is asked", async () => {
    const bare = await bench.makeCache();
    const { found, unknown } = await server().find([bare.id], [paths.xz as StorePath]);
    expect([found.size, unknown.size, upstream.requests.length]).toEqual([0, 0, 0]);
  });
});
