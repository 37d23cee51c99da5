import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DAY } from "#core/lib/clock.ts";
import { Pace } from "#core/lib/pace.ts";
import { streamOf } from "#core/lib/streams.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import { type StorePath, storePathHash } from "#core/nix/store-path.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { repairDue } from "#core/services/nar-repairs.ts";
import { scrubDue } from "#core/services/scrub.ts";
import { type NixDaemon, nixAvailable, runNix, withNixDaemon } from "#test/support/nix.ts";
import { buildIn, type UpstreamCache, withUpstreamCache } from "#test/support/upstream-cache.ts";
import { diskStore, type Harm } from "./damage.ts";
import { type CacheBench, newId, type TestCache, withCacheBench } from "./support.ts";

const nix = nixAvailable();
const never = new AbortController().signal;

describe.skipIf(!nix.ok)(`stock Nix beside damage and repair (${nix.ok ? nix.version : nix.reason})`, () => {
  let daemon: NixDaemon;
  let upstream: UpstreamCache;
  let bench: CacheBench;
  let cache: TestCache;
  let server: ReturnType<typeof serve>;
  beforeAll(async () => {
    daemon = await withNixDaemon();
    upstream = await withUpstreamCache(daemon.folder);
    bench = await withCacheBench();
    cache = await bench.makeCache();
    const row = { id: newId(), cache_id: cache.id, kind: 2, display_name: "Other", url: upstream.url };
    await bench.deps.db
      .insertInto("cache_upstream")
      .values({ ...row, public_keys: [upstream.publicKey] })
      .execute();
    const surface = bench.surface();
    const fetch = async (request: Request) => (await surface(request)) ?? new Response(null, { status: 404 });
    server = serve({ fetch, port: 0, hostname: "127.0.0.1" });
    await new Promise((resolve) => server.once("listening", resolve));
  }, 60_000);
  afterAll(async () => {
    if (server && "closeAllConnections" in server) server.closeAllConnections();
    await new Promise((resolve) => server?.close(resolve));
    await bench?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  /** Built by Nix, in an upstream as Nix wrote it, and in our cache. */
  async function publish(name: string): Promise<{ path: StorePath; objectKey: string }> {
    const expression = `derivation { name = "${name}"; system = builtins.currentSystem; PATH = "/usr/bin:/bin";
      builder = "/bin/sh"; args = [ "-c" "head -c 700000 /dev/urandom > $out" ]; }`;
    const path = (await buildIn(daemon, expression)) as StorePath;
    await upstream.copy(daemon, [path], "xz");
    const { narHash, narSize, url } = parseNarInfo(await upstream.narInfo(path));
    const file = await readFile(join(daemon.folder, "upstream", url));
    const { objectKey } = await receiveNar(bench.deps, { narHash, narSize, compression: "xz", body: streamOf(file) });
    await bench.commit([cache.id], [{ storePath: path, narHash, references: [], deriver: null, ca: null }]);
    return { path, objectKey };
  }

  /** Into an empty store. Whatever is in it afterwards has been verified. */
  async function substitute(path: StorePath): Promise<{ arrived: boolean; wrong: boolean }> {
    const root = join(daemon.folder, `client-${newId()}`);
    const { port } = server.address() as { port: number };
    const options = {
      substituters: `http://127.0.0.1:${port}/cache/${cache.name}`,
      "trusted-public-keys": cache.publicKey,
      "max-jobs": "0",
      "download-attempts": "2",
    };
    const flags = Object.entries(options).flatMap(([name, value]) => ["--option", name, value]);
    const env = { ...daemon.env, NIX_REMOTE: "", HOME: root, XDG_CACHE_HOME: join(root, "cache") };
    const { code } = await runNix(["nix-store", "--store", root, ...flags, "--realise", path], env);
    const check = ["nix-store", "--store", root, "--verify", "--check-contents"] as const;
    const verified = await runNix(check, env);
    return { arrived: code === 0, wrong: verified.code !== 0 || /modified|disappeared/.test(verified.stderr) };
  }

  async function scrub(): Promise<void> {
    await sql`update nar set verified_at = gradient_now() - interval '31 days'`.execute(bench.deps.db);
    await scrubDue(bench.deps, { pace: new Pace(bench.deps.clock, Infinity), intervalMs: 30 * DAY }, never);
  }

  test.each<Harm>(["flip", "cut", "delete"])(
    "it gets right bytes or none while an object is harmed (%s), and the path again once it is repaired",
    async (harm) => {
      const { path, objectKey } = await publish(`thing-${harm}`);
      expect(await substitute(path)).toEqual({ arrived: true, wrong: false });
      await diskStore(bench).harm(objectKey, harm);

      // Found by the scrub, or by Nix itself, whichever comes first.
      const [during] = await Promise.all([substitute(path), scrub()]);
      expect(during).toEqual({ arrived: false, wrong: false });
      expect(await substitute(path)).toEqual({ arrived: false, wrong: false });
      await repairDue(bench.deps, never);

      expect(await substitute(path)).toEqual({ arrived: true, wrong: false });
      const { port } = server.address() as { port: number };
      const address = `http://127.0.0.1:${port}/cache/${cache.name}`;
      const narInfo = await fetch(`${address}/${storePathHash(path)}.narinfo`);
      expect(parseNarInfo(await narInfo.text()).narHash).toEqual(parseNarInfo(await upstream.narInfo(path)).narHash);
    },
    30_000,
  );
});
