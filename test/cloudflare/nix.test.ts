import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StorePath } from "#core/nix/store-path.ts";
import { publish } from "#test/cache/nix-closures.ts";
import { storeFile, type TestCache } from "#test/cache/support.ts";
import { type NixDaemon, type NixRun, nixAvailable, runNix, withNixDaemon } from "#test/support/nix.ts";
import { type EdgeBench, withEdge } from "./support.ts";

const nix = nixAvailable();

/** More than Nix fetches at a time. */
const PATHS = 30;

let edge: EdgeBench;
let daemon: NixDaemon;

describe.skipIf(!nix.ok)("stock Nix", () => {
  beforeAll(async () => {
    [edge, daemon] = await Promise.all([withEdge(), withNixDaemon()]);
  });
  afterAll(async () => {
    await edge?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  /** Into a store that is empty, by a client that knows nothing but the cache's public key. */
  async function copyFrom(
    { name, publicKey }: TestCache,
    path: StorePath,
    options: Readonly<Record<string, string>> = {},
  ): Promise<NixRun & { verify(): Promise<NixRun> }> {
    const root = join(daemon.folder, `client-${name}-${performance.now()}`);
    const env = { ...daemon.env, NIX_REMOTE: "", HOME: root, XDG_CACHE_HOME: join(root, "cache") };
    const all = { "trusted-public-keys": publicKey, "download-attempts": "1", ...options };
    const flags = Object.entries(all).flatMap(([option, value]) => ["--option", option, value]);
    const from = `http://127.0.0.1:${edge.workerd.port}/cache/${name}`;
    const run = await runNix(["nix", "copy", "--from", from, "--to", root, ...flags, path], env);
    const verify = () => runNix(["nix", "store", "verify", "--store", root, "-r", ...flags, path], env);
    return { ...run, verify };
  }

  test("copies a closure, and finds every signature and every byte right", async () => {
    const cache = await edge.bench.makeCache();
    const path = await publish(edge.bench, daemon, cache, 400_000);

    const client = await copyFrom(cache, path);

    expect(client.stderr).not.toContain("error");
    expect(client.code).toBe(0);
    expect((await client.verify()).code).toBe(0);
  });

  test("copies many paths over many connections at a time", async () => {
    const cache = await edge.bench.makeCache();
    const leaves = await Promise.all(Array.from({ length: PATHS }, (_, n) => storeFile(edge.bench, `leaf-${n}`)));
    const references = leaves.map(({ storePath }) => storePath).sort();
    const root = await storeFile(edge.bench, "root", { references });
    await edge.bench.commit([cache.id], [...leaves, root]);

    const client = await copyFrom(cache, root.storePath);

    expect(client.stderr).not.toContain("error");
    expect(client.code).toBe(0);
    expect((await client.verify()).code).toBe(0);
    await expect.poll(() => edge.database.open.size).toBe(0);
  });

  test("copies a private cache with the password of its netrc file, and nothing without", async () => {
    const cache = await edge.bench.makeCache({ public: false });
    const path = await publish(edge.bench, daemon, cache);
    const reader = await edge.reader("ada", cache);
    const netrc = join(daemon.folder, "netrc");
    const key = await reader.key({ cache: cache.name, permissions: ["readStore"] });
    await writeFile(
      netrc,
      `machine 127.0.0.1 login gradient password ${key}
`,
    );

    const known = await copyFrom(cache, path, { "netrc-file": netrc });
    expect(known.code).toBe(0);
    expect((await known.verify()).code).toBe(0);
    expect((await copyFrom(cache, path)).code).not.toBe(0);
  });

  test("is told of what is not there, and goes on with what is", async () => {
    const cache = await edge.bench.makeCache();
    const path = await publish(edge.bench, daemon, cache);
    const absent = path.replace(/[^/]{32}(?=-)/, "0".repeat(32)) as StorePath;

    const refused = await copyFrom(cache, absent);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain(absent);
    expect((await copyFrom(cache, path)).code).toBe(0);
  });

  test("refuses what another key has signed", async () => {
    const [cache, other] = [await edge.bench.makeCache(), await edge.bench.makeCache()];
    const path = await publish(edge.bench, daemon, cache);

    expect((await copyFrom({ ...cache, publicKey: other.publicKey }, path)).code).not.toBe(0);
  });
});
