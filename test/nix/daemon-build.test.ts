import { readFile, readlink } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DaemonConnectionError, DaemonError } from "#core/nix/daemon/errors.ts";
import { buildLogLine, buildPhase, type DaemonEvent } from "#core/nix/daemon/events.ts";
import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { realPath } from "#worker/daemon/store-url.ts";
import { basicDerivation, instantiate, outputPath, readDerivation } from "../support/derivations.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { processesWith } from "../support/processes.ts";

const nix = nixAvailable();

describe.skipIf(!nix.ok)(`builds through the nix-daemon (${nix.ok ? nix.version : nix.reason})`, () => {
  let daemon: NixDaemon;
  beforeAll(async () => {
    daemon = await withNixDaemon();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  async function connect(overrides: Record<string, string> = {}): Promise<DaemonConnection> {
    const connection = await DaemonConnection.open(daemon.socketPath);
    await connection.setOptions({ ...defaultDaemonOptions, overrides: new Map(Object.entries(overrides)) });
    return connection;
  }

  async function build(expression: string, overrides: Record<string, string> = {}) {
    const drvPath = await instantiate(daemon, expression);
    using connection = await connect(overrides);
    const events: DaemonEvent[] = [];
    const result = await connection.buildDerivation(drvPath, await basicDerivation(daemon, drvPath), {
      onEvent: (event) => void events.push(event),
    });
    const lines = events.map(buildLogLine).filter((line) => line !== null);
    return { drvPath, result, events, lines, usable: connection.usable };
  }

  test("a build makes all its outputs, with the references between them", async () => {
    const { drvPath, result } = await build(
      `mk "multi" "mkdir $out $dev $lib; echo $lib > $dev/x; echo $lib $dev > $out/o"
        { outputs = [ "out" "dev" "lib" ]; }`,
    );
    expect(result).toMatchObject({ status: "built", success: true, message: "" });
    expect(result.durationMs).toBeGreaterThan(0);
    expect(Math.abs(Date.now() - result.startedAtMs)).toBeLessThan(60_000);

    const derivation = await readDerivation(daemon, drvPath);
    const [out, dev, lib] = ["out", "dev", "lib"].map((name) => outputPath(derivation, name));
    const built = new Map(result.builtOutputs.map(({ outputName, path }) => [outputName, path]));
    expect([built.get("out"), built.get("dev"), built.get("lib")]).toEqual([out, dev, lib]);

    using connection = await connect();
    const info = await connection.queryPathInfo(out as typeof drvPath);
    expect(info?.references).toEqual([dev, lib].sort());
    expect(info).toMatchObject({ deriver: drvPath, ultimate: true, contentAddress: null });
    expect(await readFile(`${realPath(daemon, dev as typeof drvPath)}/x`, "utf8")).toBe(`${lib}\n`);
  });

  test("a failing build is a result with its log, and the connection goes on", async () => {
    const { result, lines, usable } = await build(`mk "fail" "echo to stdout; echo oops >&2; exit 3" {}`);
    expect(result).toMatchObject({ status: "permanent-failure", success: false });
    expect(result.message).toMatch(/exit code 3/);
    expect(result.message).not.toContain("\x1b");
    expect(lines).toEqual(["to stdout", "oops"]);
    expect(usable).toBe(true);
  });

  test("log lines keep their order, colours and odd bytes, and phases are told apart", async () => {
    const { lines, events } = await build(
      `mk "phase" "echo '@nix { \\"action\\": \\"setPhase\\", \\"phase\\": \\"buildPhase\\" }' >&2; printf 'no '; ` +
        `printf '\\\\033[31mred\\\\033[0m\\\\n'; printf 'bad \\\\377\\\\n'; printf 'p 1\\\\rp 2\\\\n'; echo > $out" {}`,
    );
    expect(lines).toEqual(["no \x1b[31mred\x1b[0m", "bad �", "p 2"]);
    expect(events.map(buildPhase).filter((phase) => phase !== null)).toEqual(["buildPhase"]);
  });

  test("20 000 log lines arrive complete and in order", async () => {
    const { lines } = await build(
      `mk "biglog" "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo > $out" {}`,
    );
    expect(lines.length).toBe(20_000);
    expect(lines.every((line, index) => line === `line ${index}`)).toBe(true);
  });

  test.each([
    ["timeout", `mk "slow" "sleep 47" { v = 1; }`],
    ["max-silent-time", `mk "silent" "echo start; sleep 47" { v = 2; }`],
  ])("a build that exceeds %s has timed out", async (setting, expression) => {
    const { result } = await build(expression, { [setting]: "1" });
    expect(result).toMatchObject({ status: "timed-out", success: false });
  });

  test("a fixed output that has another hash is an output that was rejected", async () => {
    const { result } =
      await build(`mk "fod-bad" "printf wrong > $out" { outputHashMode = "flat"; outputHashAlgo = "sha256";
      outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; }`);
    expect(result).toMatchObject({ status: "output-rejected", success: false });
    expect(result.message).toMatch(/hash mismatch/);
  });

  test("a fixed output may use the network, an input-addressed one may not", async () => {
    const script = "cat /proc/net/dev > /tmp/interfaces; grep -c : /tmp/interfaces; ls -l /proc/self/ns/net";
    const namespaceOf = (lines: string[]) => /net:\[\d+\]/.exec(lines.join())?.[0];
    const fixed = await build(`mk "fod-net" "${script}; printf hello > $out" { outputHashMode = "flat";
      outputHashAlgo = "sha256"; outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; }`);
    const plain = await build(`mk "plain-net" "${script}; printf hello > $out" {}`);
    expect(fixed.result.status).toBe("built");
    const host = await readlink("/proc/self/ns/net");
    expect(namespaceOf(fixed.lines)).toBe(host);
    expect(namespaceOf(plain.lines)).toMatch(/net:/);
    expect(namespaceOf(plain.lines)).not.toBe(host);
  });

  test("a build whose input is missing fails without harm to the connection", async () => {
    const drvPath = await instantiate(
      daemon,
      `mk "needs" "cat $dep > $out" { dep = mk "never-built" "echo x > $out" {}; }`,
    );
    using connection = await connect();
    const outcome = await connection
      .buildDerivation(drvPath, await basicDerivation(daemon, drvPath))
      .catch((error: unknown) => error);
    if (outcome instanceof Error) expect(outcome).toBeInstanceOf(DaemonError);
    else expect(outcome).toMatchObject({ success: false });
    expect(await connection.isValidPath(drvPath)).toBe(true);
  });

  test("aborting a build ends its processes at once and rejects with the reason", async () => {
    const drvPath = await instantiate(daemon, `mk "abort" "echo started; sleep 46.731" {}`);
    const derivation = await basicDerivation(daemon, drvPath);
    using connection = await connect();
    const abort = new AbortController();
    const reason = new Error("cancelled by a member");
    const building = connection.buildDerivation(drvPath, derivation, {
      signal: abort.signal,
      onEvent: async (event) => {
        if (buildLogLine(event) !== "started") return;
        while ((await processesWith("sleep 46.731")).length === 0) await sleep(5);
        abort.abort(reason);
      },
    });

    await expect(building).rejects.toBe(reason);
    expect(connection.usable).toBe(false);
    await expect(connection.isValidPath(drvPath)).rejects.toThrow(DaemonConnectionError);
    await expect.poll(() => processesWith("sleep 46.731"), { timeout: 20_000 }).toEqual([]);
  });

  test("a handler that throws ends the build, and the connection is not used again", async () => {
    const drvPath = await instantiate(daemon, `mk "handler" "echo line; sleep 45.913" {}`);
    using connection = await connect();
    const fault = new DaemonError({ level: 0, message: "thrown by the handler", traces: [] });
    const building = connection.buildDerivation(drvPath, await basicDerivation(daemon, drvPath), {
      onEvent: (event) => {
        if (buildLogLine(event) !== null) throw fault;
      },
    });
    await expect(building).rejects.toBe(fault);
    expect(connection.usable).toBe(false);
  }, 5_000);

  test("derivations in the store are built with their dependencies, each with a result of its own", async () => {
    const good = await instantiate(daemon, `mk "good" "cat $dep > $out" { dep = mk "dep" "echo y > $out" {}; }`);
    const bad = await instantiate(daemon, `mk "bad" "cat $dep > $out" { dep = mk "bad-dep" "exit 1" {}; }`);
    using connection = await connect();
    await connection.setOptions({ ...defaultDaemonOptions, keepGoing: true });

    const missing = await connection.queryMissing([{ path: good, outputs: ["out"] }]);
    expect(missing.willBuild).toContain(good);
    const results = await connection.buildPathsWithResults([
      { path: bad, outputs: "all" },
      { path: good, outputs: ["out"] },
    ]);

    expect(results.get(`${good}!out`)).toMatchObject({ status: "built" });
    expect(results.get(`${bad}!*`)).toMatchObject({ status: "dependency-failed" });
    expect(await connection.queryMissing([{ path: good, outputs: "all" }])).toMatchObject({ willBuild: [] });
  });

  test("outputs that are addressed by content are found in the result of a build by value", async () => {
    const { result } = await build(`mk "floating" "echo x > $out; echo $out > $dev" { outputs = [ "out" "dev" ];
      __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; }`);
    expect(result.status).toBe("built");
    expect(result.builtOutputs.map(({ outputName }) => outputName).sort()).toEqual(["dev", "out"]);
    using connection = await connect();
    const paths = result.builtOutputs.map(({ path }) => path);
    expect(await connection.queryValidPaths(paths)).toEqual(new Set(paths));
    const [first] = paths;
    expect(first && (await connection.queryPathInfo(first))?.contentAddress).toMatch(/^fixed:r:sha256:/);
  });

  test("a user whom the daemon does not trust is refused a build by value, and told so", async () => {
    await using own = await withNixDaemon({ settings: { "trusted-users": "somebody-else" } });
    const drvPath = await instantiate(own, `mk "untrusted" "echo > $out" {}`);
    using connection = await DaemonConnection.open(own.socketPath);
    expect(connection.greeting.trust).toBe(connection.greeting.minor >= 35 ? "not-trusted" : "unknown");
    const building = connection.buildDerivation(drvPath, await basicDerivation(own, drvPath));
    await expect(building).rejects.toThrow(/not privileged to build input-addressed derivations/);
    expect(connection.usable).toBe(true);
  });

  test("what was built already is not built again", async () => {
    const expression = `mk "twice" "echo > $out" {}`;
    expect((await build(expression)).result.status).toBe("built");
    const { result, lines } = await build(expression);
    expect(result).toMatchObject({ status: "already-valid", success: true });
    expect(lines).toEqual([]);
  });
});
