import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createUpstreamRelay } from "#core/http/upstream-relay.ts";
import { UpstreamRelay } from "#core/services/upstream-relay.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { instantiate } from "#test/support/derivations.ts";
import { type NixDaemon, nixAvailable, nixOutput, runNix, withNixDaemon } from "#test/support/nix.ts";
import { type UpstreamCache, withUpstreamCache } from "#test/support/upstream-cache.ts";
import { type CacheBench, newId, type TestCache, withCacheBench } from "./support.ts";

const nix = nixAvailable();
const CLOSURE = `let
    lib = mk "lib" "mkdir $out; echo lib > $out/lib" {};
    data = mk "data" "for i in $(seq 60000); do echo data $i; done > $out" {};
  in mk "app" "mkdir -p $out/bin; echo ''\${lib} ''\${data} $out > $out/refers; echo x > $out/bin/app" {}`;

describe.skipIf(!nix.ok)(`stock Nix behind a cache that relays${nix.ok ? "" : ` (skipped: ${nix.reason})`}`, () => {
  let daemon: NixDaemon;
  let upstream: UpstreamCache;
  let bench: CacheBench;
  let cache: TestCache;
  let app: string;
  let clients = 0;

  beforeAll(async () => {
    daemon = await withNixDaemon();
    upstream = await withUpstreamCache(daemon.folder);
    app = await nixOutput(["nix-store", "--realise", await instantiate(daemon, CLOSURE)], daemon.env);
    await upstream.copy(daemon, [app], "xz");
    bench = await withCacheBench();
  }, 60_000);
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    cache = await bench.makeCache();
    const row = { id: newId(), cache_id: cache.id, kind: 2, display_name: "Other", url: upstream.url };
    await bench.deps.db
      .insertInto("cache_upstream")
      .values({ ...row, public_keys: [upstream.publicKey] })
      .execute();
    upstream.fault = () => null;
    upstream.requests.length = 0;
  });

  async function withServer(): Promise<AsyncDisposable & { readonly port: number }> {
    const upstreams = new Upstreams(bench.deps);
    const relay = createUpstreamRelay(new UpstreamRelay({ ...bench.deps, upstreams, secretKeyOf: bench.secretKeyOf }));
    const surface = bench.surface({ relay });
    const fetch = async (request: Request) => (await surface(request)) ?? new Response(null, { status: 404 });
    const server = serve({ fetch, port: 0, hostname: "127.0.0.1" });
    await new Promise((resolve) => server.once("listening", resolve));
    return {
      port: (server.address() as { port: number }).port,
      [Symbol.asyncDispose]: () =>
        new Promise<void>((resolve) => {
          server.close(() => resolve());
          if ("closeAllConnections" in server) server.closeAllConnections();
        }),
    };
  }

  /** Into a store that is empty, by a client that knows neither the upstream nor its key. */
  async function substitute({ port }: { readonly port: number }) {
    const root = join(daemon.folder, `client-${clients++}`);
    const options = {
      substituters: `http://127.0.0.1:${port}/cache/${cache.name}`,
      "trusted-public-keys": cache.publicKey,
      "max-jobs": "0",
      "narinfo-cache-negative-ttl": "0",
      "download-attempts": "1",
    };
    const flags = Object.entries(options).flatMap(([name, value]) => ["--option", name, value]);
    const env = { ...daemon.env, NIX_REMOTE: "", HOME: root, XDG_CACHE_HOME: join(root, "cache") };
    const realised = await runNix(["nix-store", "--store", root, ...flags, "--realise", app], env);
    const verify = () => runNix(["nix", "store", "verify", "--store", root, "-r", app, ...flags.slice(3, 6)], env);
    return { root, realised, verify };
  }

  test("a closure comes whole, and is signed by the only key that the client trusts", async () => {
    await using server = await withServer();
    const { realised, verify } = await substitute(server);
    expect([realised.stderr, realised.code]).toEqual([expect.any(String), 0]);
    expect(await verify()).toMatchObject({ code: 0 });
    expect(upstream.requests.filter((path) => path.startsWith("/nar/"))).toHaveLength(3);
  }, 30_000);

  test("a closure that passed is kept: the next client needs no upstream", async () => {
    await bench.deps.db.updateTable("cache").set({ pull_through: true }).where("id", "=", cache.id).execute();
    {
      await using server = await withServer();
      expect((await substitute(server)).realised.code).toBe(0);
    }
    const kept = await bench.deps.db.selectFrom("cache_path").select("hash").where("cache_id", "=", cache.id).execute();
    expect(kept).toHaveLength(3);
    upstream.fault = () => ({ status: 500 });
    await using server = await withServer();
    const { realised, verify } = await substitute(server);
    expect([realised.stderr, realised.code]).toEqual([expect.any(String), 0]);
    expect(await verify()).toMatchObject({ code: 0 });
  }, 30_000);

  test("a file that is not what was signed reaches no store", async () => {
    upstream.fault = (path) => (path.startsWith("/nar/") ? "flip" : null);
    await using server = await withServer();
    const { root, realised } = await substitute(server);
    expect(realised.code).not.toBe(0);
    const entries = await readdir(join(root, "nix/store"));
    expect(entries.filter((entry) => !entry.startsWith(".") && !entry.endsWith(".lock"))).toEqual([]);
  }, 30_000);
});
