import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { instantiate, storePath } from "#test/support/derivations.ts";
import { type NixDaemon, nixAvailable, nixOutput, runNix, withNixDaemon } from "#test/support/nix.ts";
import { type PushBench, type TestPusher, withPushBench } from "./push-support.ts";
import type { TestCache } from "./support.ts";

const nix = nixAvailable();
const PATHS = 300;

/** Small paths, each of which refers to three others; the last of them refers to all. */
const EXPRESSION = `let
    others = i: builtins.filter (j: j >= 0) [ (i - 1) (i - 2) (i - 7) ];
    words = i: [ "path \${toString i}" ] ++ map (builtins.elemAt paths) (others i);
    path = i: builtins.toFile "path-\${toString i}" (builtins.concatStringsSep " " (words i));
    paths = builtins.genList path ${PATHS - 1};
  in builtins.toFile "all" (builtins.concatStringsSep "\\n" paths)`;

describe.skipIf(!nix.ok)(`nix copy${nix.ok ? "" : ` (skipped: ${nix.reason})`}`, () => {
  let daemon: NixDaemon;
  let bench: PushBench;
  let server: Awaited<ReturnType<PushBench["listen"]>>;
  let all: string;

  beforeAll(async () => {
    [daemon, bench] = await Promise.all([withNixDaemon(), withPushBench()]);
    server = await bench.listen();
    all = JSON.parse(
      await nixOutput(["nix-instantiate", "--eval", "--read-write-mode", "--json", "-E", EXPRESSION], daemon.env),
    );
  }, 60_000);
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await bench?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  const urlOf = (cache: TestCache, query = "") => `http://127.0.0.1:${server.port}/cache/${cache.name}${query}`;

  async function netrcOf(user: TestPusher): Promise<string> {
    const file = join(daemon.folder, `netrc-${user.id}`);
    await writeFile(file, `machine 127.0.0.1 login nix password ${user.id}\n`);
    return file;
  }

  const copy = (to: string, paths: readonly string[], netrc?: string) =>
    runNix(["nix", "copy", "--to", to, ...(netrc ? ["--option", "netrc-file", netrc] : []), ...paths], {
      ...daemon.env,
      HOME: join(daemon.folder, `home-${performance.now()}`),
    });

  /** Nix remembers the narinfos that it has put, which are not the cache's: another machine knows only the cache's. */
  const clientEnv = (root: string) => ({ ...daemon.env, NIX_REMOTE: "", HOME: root, XDG_CACHE_HOME: join(root, "c") });

  /** Copies everything back into a store that is empty, and has Nix verify every byte and signature of it. */
  async function readBack(cache: TestCache, netrc: string | null): Promise<void> {
    const root = join(daemon.folder, `client-${cache.name}`);
    const flags = ["--option", "trusted-public-keys", cache.publicKey, "--option", "substituters", ""];
    if (netrc) flags.push("--option", "netrc-file", netrc);
    const env = clientEnv(root);
    await nixOutput(["nix", "copy", ...flags, "--from", urlOf(cache), "--to", root, all], env);
    const closure = await nixOutput(["nix-store", "--store", root, "-qR", all], env);
    expect(closure.split("\n")).toHaveLength(PATHS);
    expect((await runNix(["nix", "store", "verify", ...flags, "--store", root, "-r", all], env)).code).toBe(0);
  }

  test(`${PATHS} paths go to a public cache and come back`, { timeout: 180_000 }, async () => {
    const cache = await bench.makeCache();
    const netrc = await netrcOf(await bench.pusher({ [cache.id]: "Write" }));
    server.requests.length = 0;
    const copied = await copy(urlOf(cache, "?compression=zstd"), [all], netrc);
    expect(copied.stderr).not.toContain("error");
    expect(copied.code).toBe(0);
    expect(server.requests.filter((line) => /^PUT .*\.narinfo -> 200$/.test(line))).toHaveLength(PATHS);
    await readBack(cache, null);
    expect(await bench.deps.db.selectFrom("sent_nar").selectAll().where("cache_id", "=", cache.id).execute()).toEqual(
      [],
    );

    server.requests.length = 0;
    expect((await copy(urlOf(cache), [all], netrc)).code).toBe(0);
    expect(server.requests.filter((line) => line.startsWith("PUT"))).toEqual([]);
  });

  test(`${PATHS} paths go to a private cache and come back`, { timeout: 180_000 }, async () => {
    const cache = await bench.makeCache({ public: false });
    const netrc = await netrcOf(await bench.pusher({ [cache.id]: "Write" }));
    const copied = await copy(urlOf(cache, "?compression=none"), [all], netrc);
    expect(copied.stderr).not.toContain("error");
    expect(copied.code).toBe(0);
    await readBack(cache, netrc);
  });

  test("what Nix compresses by itself, with a listing, is taken: xz, bzip2, gzip and br", {
    timeout: 180_000,
  }, async () => {
    for (const compression of ["xz", "bzip2", "gzip", "br"]) {
      const cache = await bench.makeCache();
      const netrc = await netrcOf(await bench.pusher({ [cache.id]: "Write" }));
      const drv = await instantiate(
        daemon,
        `mk "${compression}" "echo seq was here; mkdir $out; seq 100000 > $out/numbers; ln -s numbers $out/link" {}`,
      );
      const output = storePath(await nixOutput(["nix-store", "--realise", drv], daemon.env));
      const query = `?compression=${compression}&write-nar-listing=1`;
      const copied = await copy(urlOf(cache, query), [output], netrc);
      expect(copied.stderr).not.toContain("error");
      expect(copied.code).toBe(0);
      const root = join(daemon.folder, `client-${compression}`);
      const env = clientEnv(root);
      const flags = ["--option", "trusted-public-keys", cache.publicKey, "--option", "substituters", ""];
      await nixOutput(["nix", "copy", ...flags, "--from", urlOf(cache), "--to", root, output], env);

      await nixOutput(
        ["nix", "store", "copy-log", "--to", urlOf(cache), drv, "--option", "netrc-file", netrc],
        daemon.env,
      );
      const log = await fetch(`${urlOf(cache)}/log/${drv.slice("/nix/store/".length)}`);
      expect(await log.text()).toBe("seq was here\n");
    }
  });

  test("without credentials, and with those of a reader, Nix says why it may not", { timeout: 180_000 }, async () => {
    const cache = await bench.makeCache();
    const reader = await netrcOf(await bench.pusher({ [cache.id]: "View" }));
    const anonymous = await copy(urlOf(cache), [all]);
    expect(anonymous.code).not.toBe(0);
    expect(anonymous.stderr).toContain("HTTP error 401");
    const refused = await copy(urlOf(cache), [all], reader);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain("writeStore");
    expect(server.requests.filter((line) => /^PUT .*narinfo/.test(line) && line.includes(`/${cache.name}/`))).toEqual(
      [],
    );
  });
});
