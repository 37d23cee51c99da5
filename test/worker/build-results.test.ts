import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { toHex } from "#core/lib/bytes.ts";
import { parseHash } from "#core/nix/hash.ts";
import { fingerprint, type PublicKey, parsePublicKey, verify } from "#core/nix/signature.ts";
import type { BuildMetrics } from "#core/protocol/worker-messages.ts";
import type { BuildEnvironmentOptions } from "#worker/build/environment.ts";
import { executeBuild } from "#worker/build/execute.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import type { Upload } from "#worker/link.ts";
import { loadSigner } from "#worker/signing-key.ts";
import { instantiate, outputPath, readDerivation } from "../support/derivations.ts";
import { type NixDaemon, nixAvailable, nixOutput, runNix, withNixDaemon } from "../support/nix.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";
import { environmentOf, MemoryLink, MemoryStore, requestFor } from "./build-support.ts";

const nix = nixAvailable();
const MIB = 1024 * 1024;

describe.skipIf(!nix.ok)(`what a build reports and keeps (${nix.ok ? nix.version : nix.reason})`, () => {
  let daemon: NixDaemon;
  beforeAll(async () => {
    daemon = await withNixDaemon();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  async function build(
    expression: string,
    { link = new MemoryLink(), ...options }: Partial<BuildEnvironmentOptions> & { readonly link?: MemoryLink } = {},
  ) {
    const drvPath = await instantiate(daemon, expression);
    await using environment = environmentOf(daemon, options);
    const result = await executeBuild(await requestFor(daemon, drvPath), link, environment);
    return { drvPath, result, link, log: link.logText };
  }

  test("processor time is each build's own, and memory is told when it was looked at", async () => {
    await using environment = environmentOf(daemon, { metering: { sampling: true, cgroupRoot: "/sys/fs/cgroup" } });
    const measure = async (expression: string, sampling: boolean) => {
      const request = await requestFor(daemon, await instantiate(daemon, expression));
      const metering = { ...environment.metering, sampling };
      const result = await executeBuild(request, new MemoryLink(), { ...environment, metering });
      expect(result).toMatchObject({ status: "built" });
      return result.metrics;
    };
    const busy = `i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done
      { head -c 84000000 /dev/zero; sleep 1; } | dd of=/dev/null bs=80M iflag=fullblock
      echo > $out`;
    // On the same connection, one after the other.
    const first = await measure(`mk "busy" ''${busy}'' {}`, true);
    const second = await measure(`mk "lazy" "sleep 0.3; echo > $out" {}`, false);

    expect(processorMs(first)).toBeGreaterThan(150);
    expect(processorMs(second)).toBeLessThan(100);
    expect(first?.peak_memory_bytes).toBeGreaterThan(70 * MIB);
    expect(first?.peak_memory_bytes).toBeLessThan(1024 * MIB);
    expect(second).toMatchObject({ peak_memory_bytes: null, io_read_bytes: null, io_write_bytes: null });
  });

  test("a build that fails is measured, and what was there already is not", async () => {
    const failed = await build(`mk "fails" "exit 1" {}`);
    expect(failed.result).toMatchObject({ status: "failed", metrics: { cpu_user_ms: expect.any(Number) } });
    const expression = `mk "twice" "echo > $out" {}`;
    await build(expression);
    const { result } = await build(expression);
    expect(result.status).toBe("already_valid");
    expect(result.metrics).toBeUndefined();
  });

  test("the files that an output offers are reported, and a link to a file of the machine is not", async () => {
    const { result, log } = await build(`mk "offers" ''
      mkdir -p $out/nix-support $out/www; echo page > $out/www/index.html; ln -s /etc/passwd $out/passwd
      echo "doc manual $out/www/index.html" > $out/nix-support/hydra-build-products
      echo "file secret $out/passwd" >> $out/nix-support/hydra-build-products'' {}`);
    const out = result.outputs[0]?.path;
    const page = { output: "out", type: "doc", subtype: "manual", name: "index.html", size: 5 };
    expect(result).toMatchObject({ status: "built" });
    expect(result.products).toEqual([{ ...page, path: `${out}/www/index.html` }]);
    expect(log).toContain("passwd is not listed: its link leaves the store");
  });

  test("structured attributes reach the builder, and their checks of outputs are kept", async () => {
    const structured = (name: string, script: string, more: string) => `let text = builtins.toFile "words" "words"; in
      derivation { name = "${name}"; system = builtins.currentSystem; builder = "/bin/sh"; __structuredAttrs = true;
        args = [ "-c" "/usr/bin/cat .attrs.json; echo; ${script}" ]; inherit text;
        list = [ "a b" "c" ]; nested.deep = 7; ${more} }`;
    // dash cannot read .attrs.sh: the path of the output is found in the JSON.
    const out = 'out=$(/usr/bin/sed \'s/.*"outputs":{"out":"//; s/".*//\' .attrs.json)';
    const seen = await build(structured("structured", `${nixText(out)}; echo done > $out`, ""));
    expect(seen.log).toContain('"list":["a b","c"]');
    expect(seen.log).toContain('"nested":{"deep":7}');
    expect(seen.result).toMatchObject({ status: "built", failure: null });

    const refers = structured(
      "checked",
      `${nixText(out)}; echo \${text} > $out`,
      "outputChecks.out.disallowedReferences = [ text ];",
    );
    expect((await build(refers)).result.failure).toMatchObject({
      class: "permanent",
      message: expect.stringContaining("not allowed to refer to"),
    });
  });

  test("the number of cores is the one that is set", async () => {
    expect(
      (await build(`mk "cores-1" "echo cores=$NIX_BUILD_CORES > $out; echo cores=$NIX_BUILD_CORES" {}`, { cores: 3 }))
        .log,
    ).toBe("cores=3\n");
  });

  test("what a build may log is set by its limits", async () => {
    const logLimits = { bytesPerMinute: 2_000, bytesPerHour: 10_000 };
    const { log, result } = await build(
      `mk "loud" "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; echo > $out" {}`,
      { logLimits },
    );
    expect(result.status).toBe("built");
    expect(log).toContain("log truncated: more than 2000 bytes in a minute or 10000 bytes in an hour");
    expect(log).toContain("line 499");
  });

  test("what is uploaded bears the signature of the worker's key", async () => {
    await using folder = await withTemporaryFolder();
    const signer = await loadSigner({ file: null, dataDir: folder.path, workerId: crypto.randomUUID() });
    const uploads: Upload[] = [];
    const store = new MemoryStore();
    const link = new MemoryLink(store, {
      async pushNar(upload) {
        uploads.push(upload);
        await store.store(upload);
      },
    });
    await build(`mk "signed" "echo $out > $out" {}`, { link, signer });

    const [{ info, signatures = [] } = {} as Upload] = uploads;
    const narHash = parseHash(`sha256:${info.nar_hash}`);
    if (!narHash) throw new Error("no hash");
    const facts = { storePath: info.path, narHash, narSize: info.nar_size, references: info.references };
    const key = parsePublicKey(signer.publicKey) as PublicKey;
    expect(toHex(narHash.digest)).toBe(info.nar_hash);
    expect(info.references).toEqual([info.path]);
    expect(await verify(key, fingerprint(facts), signatures[0] ?? "")).toBe(true);
  });

  test("a daemon's own substituters are never asked: what the server assigns is built here", async () => {
    await using folder = await withTemporaryFolder();
    const cache = `file://${folder.path}/cache`;
    await using other = await withNixDaemon({ settings: { substituters: cache, "require-sigs": "false" } });
    const expression = `mk "substitutable" "echo > $out" { preferLocalBuild = true; allowSubstitutes = true; }`;
    const drvPath = await instantiate(other, expression);
    const request = await requestFor(other, drvPath);
    const out = await nixOutput(["nix-store", "--realise", drvPath], other.env);
    await nixOutput(["nix", "copy", "--to", cache, out], other.env);
    await nixOutput(["nix-store", "--delete", out], other.env);

    await using environment = environmentOf(other);
    const result = await executeBuild(request, new MemoryLink(), environment);
    expect(result).toMatchObject({ status: "built", failure: null });
  });

  /**
   * A build that needs its inputs at its end, and loses what is garbage before that. Its output is larger than what is
   * read before it is sent.
   */
  async function buildWithCollection(name: string, gcRootsDir: string) {
    const drvPath = await instantiate(
      daemon,
      `let deep = mk "${name}-deep" "echo deep words > $out" {}; in
        mk "${name}" "echo go; sleep 1; cat $dep; cat $text; printf %0100000d 0 > $out" {
          dep = mk "${name}-dep" "echo $deep > $out" { inherit deep; }; text = builtins.toFile "${name}-text" "x"; }`,
    );
    const derivation = await readDerivation(daemon, drvPath);
    await nixOutput(["nix-store", "--realise", ...derivation.inputDerivations.keys()], daemon.env);
    const request = await requestFor(daemon, drvPath);
    let collected = "";
    const link = new MemoryLink(new MemoryStore(), {
      async pushNar(upload) {
        // Whoever held the output is forgotten, as when the connection is lost.
        const folder = join(daemon.root, "nix/var/nix/temproots");
        for (const file of await readdir(folder)) await rm(join(folder, file), { force: true });
        collected += await collectGarbage();
        for await (const _ of upload.open());
      },
    });
    const looked = Promise.withResolvers<void>();
    link.onLog = async (text) => {
      if (!text.startsWith("go")) return;
      collected += await collectGarbage();
      looked.resolve();
    };
    // Only the links are to hold the inputs here, as they do when the connection is lost.
    const unheld = vi.spyOn(DaemonConnection.prototype, "addTempRoots").mockResolvedValue();
    try {
      await using environment = environmentOf(daemon, { gcRootsDir });
      const result = await executeBuild(request, link, environment);
      await looked.promise;
      const lost = [...request.inputs, outputPath(derivation)].filter((path) => collected.includes(path));
      return { result, lost, collected };
    } finally {
      unheld.mockRestore();
    }
  }

  async function collectGarbage(): Promise<string> {
    const { code, stderr } = await runNix(["nix-store", "--gc"], daemon.env);
    expect(code, stderr).toBe(0);
    return stderr
      .split("\n")
      .filter((line) => line.startsWith("deleting "))
      .join("\n");
  }

  test("a garbage collection in mid-build takes nothing it needs, nor its outputs before they are sent", async () => {
    await using folder = await withTemporaryFolder();
    const garbage = (await build(`mk "garbage" "echo > $out" {}`)).result.outputs[0]?.path;
    const kept = await buildWithCollection("kept", folder.path);

    expect(kept.result).toMatchObject({ status: "built", failure: null });
    expect(kept.lost).toEqual([]);
    // It was a real one.
    expect(kept.collected).toContain(garbage);
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("roots in the store's own folder hold without being registered", async () => {
    const own = join(daemon.root, "nix/var/nix/gcroots/gradient");
    const registered = async (): Promise<string[]> =>
      await readdir(join(daemon.root, "nix/var/nix/gcroots/auto")).catch(() => []);
    const before = await registered();
    const kept = await buildWithCollection("direct", own);

    expect(kept.result).toMatchObject({ status: "built", failure: null });
    expect(kept.lost).toEqual([]);
    expect((await registered()).filter((name) => !before.includes(name))).toEqual([]);
  });

  test("switched off, nothing but the connection holds what a build needs", async () => {
    const lost = await buildWithCollection("unheld", "");
    expect(lost.lost.length).toBeGreaterThan(0);
    expect(lost.result.failure).not.toBeNull();
  });
});

function processorMs(metrics: BuildMetrics | undefined): number {
  return (metrics?.cpu_user_ms ?? Number.NaN) + (metrics?.cpu_system_ms ?? Number.NaN);
}

/** As it stands in a string of Nix. */
function nixText(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
}
