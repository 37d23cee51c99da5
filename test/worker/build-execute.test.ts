import { mkdir, readdir, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { printDerivation } from "#core/nix/derivation.ts";
import { derivationPath } from "#core/nix/store-path.ts";
import type { BuildEnvironmentOptions } from "#worker/build/environment.ts";
import { executeBuild } from "#worker/build/execute.ts";
import { clearGcRoots } from "#worker/build/gc-roots.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { AttemptEndedError, UploadRefusedError } from "#worker/link.ts";
import { instantiate, outputPath, readDerivation, storePath } from "../support/derivations.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { processesWith } from "../support/processes.ts";
import { quietLogger } from "../support/quiet-logger.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";
import { environmentOf, type Limits, MemoryLink, MemoryStore, requestFor } from "./build-support.ts";

const nix = nixAvailable();
const MIB = 1024 * 1024;

describe.skipIf(!nix.ok)(`a build on a worker (${nix.ok ? nix.version : nix.reason})`, () => {
  let daemon: NixDaemon;
  beforeAll(async () => {
    daemon = await withNixDaemon();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  interface BuildOptions extends Partial<BuildEnvironmentOptions> {
    readonly link?: MemoryLink;
    readonly limits?: Limits;
  }

  async function build(expression: string, { link = new MemoryLink(), limits, ...options }: BuildOptions = {}) {
    const drvPath = await instantiate(daemon, expression);
    await using environment = environmentOf(daemon, options);
    const result = await executeBuild(await requestFor(daemon, drvPath, limits), link, environment);
    return { drvPath, result, link, log: link.logText };
  }

  test("all outputs are offered, each after those it refers to, and nothing else", async () => {
    const store = new MemoryStore();
    const { drvPath, result, link, log } = await build(
      `mk "multi" "mkdir $out $dev; echo lib > $lib; echo $lib > $dev/x; echo $lib $dev $out > $out/o; echo done"
        { outputs = [ "out" "dev" "lib" ]; }`,
      { link: new MemoryLink(store) },
    );
    const derivation = await readDerivation(daemon, drvPath);
    const path = (name: string) => outputPath(derivation, name);
    expect(result).toMatchObject({ status: "built", failure: null });
    expect(result.build_ms).toBeGreaterThan(0);
    expect(new Map(result.outputs.map((output) => [output.name, output.path]))).toEqual(
      new Map(["out", "dev", "lib"].map((name) => [name, path(name)])),
    );
    expect(link.pushed).toEqual([path("lib"), path("dev"), path("out")]);
    expect(store.nars.get(path("out"))?.info).toMatchObject({
      references: [path("lib"), path("dev"), path("out")].sort(),
      deriver: drvPath,
    });
    expect(link.phases).toEqual(["prepared", "building", "builder ended"]);
    expect(log).toBe("done\n");
  });

  test("what is in the store already is offered without a build", async () => {
    const expression = `mk "again" "echo built; echo > $out" {}`;
    await build(expression);
    const { result, link, log } = await build(expression);
    expect(result).toMatchObject({ status: "already_valid", failure: null });
    expect(link.pushed).toEqual(result.outputs.map(({ path }) => path));
    expect(log).toBe("");
  });

  test("an output that is addressed by its content is found and offered", async () => {
    const { result, link } = await build(`mk "floating" "echo x > $out" {
      __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; }`);
    expect(result).toMatchObject({ status: "built" });
    expect(link.pushed).toEqual([result.outputs[0]?.path]);
  });

  test("a derivation that needs nothing and states another place than Nix computes is not built", async () => {
    const path = await instantiate(daemon, `mk "placed" "echo x > $out" {}`);
    const derivation = await readDerivation(daemon, path);
    const other = { path: outputPath(derivation).replace("placed", "plaque"), hashAlgorithm: "", hash: "" };
    const aterm = printDerivation({ ...derivation, outputs: new Map([["out", other]]) });
    const drvPath = await derivationPath("placed", aterm, []);
    await using environment = environmentOf(daemon, {});
    const job = { drvPath, aterm, inputs: [], timeoutMs: 0, maxSilentMs: 0 };
    const { failure } = await executeBuild(job, new MemoryLink(), environment);
    expect(failure).toMatchObject({
      class: "permanent",
      message: expect.stringMatching(/belongs to .*-placed, and not/),
    });
  });

  test("a fixed output keeps its content address", async () => {
    const store = new MemoryStore();
    const { result } = await build(
      `mk "fixed" "printf hello > $out" { outputHashMode = "flat"; outputHashAlgo = "sha256";
        outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; }`,
      { link: new MemoryLink(store) },
    );
    expect(result).toMatchObject({ status: "built" });
    const [info] = Array.from(store.nars.values(), (nar) => nar.info);
    expect(info?.ca).toMatch(/^fixed:sha256:/);
  });

  test("a builder that fails is told in one line, with the phase it was in, and its log is whole", async () => {
    const { result, log } = await build(
      `mk "fail" "echo one; echo '@nix { \\"action\\": \\"setPhase\\", \\"phase\\": \\"checkPhase\\" }' >&2;
        echo No space left on device >&2; exit 3" {}`,
    );
    expect(result.failure).toEqual({
      class: "permanent",
      message: "builder failed with exit code 3 (in checkPhase)",
      missing: [],
    });
    expect(result).toMatchObject({ status: "failed", outputs: [] });
    expect(log).toBe('one\n@nix {"action":"setPhase","phase":"checkPhase"}\nNo space left on device\n');
  });

  const WRONG_HASH = `{ outputHashMode = "flat"; outputHashAlgo = "sha256";
    outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; }`;
  test.each([
    ["a wrong hash", `mk "hash" "printf wrong > $out" ${WRONG_HASH}`, "permanent", /specified:.*\n.*got: /],
    [
      "a missing output",
      `mk "none" "true" {}`,
      "permanent",
      /^builder failed to produce output path for output 'out'$/,
    ],
    ["a fetch that failed", `mk "fetch" "exit 1" ${WRONG_HASH}`, "transient", /^builder failed with exit code 1$/],
    [
      "another system",
      `derivation { name = "o"; system = "riscv64-linux"; builder = "/bin/sh"; }`,
      "transient",
      /riscv64/,
    ],
  ])("%s says so", async (_name, expression, failureClass, message) => {
    const { result } = await build(expression);
    expect(result.failure).toMatchObject({ class: failureClass, message: expect.stringMatching(message) });
  });

  test.each([
    [
      "timeout",
      `mk "slow" "while :; do echo tick; sleep 0.2; done" {}`,
      { timeoutMs: 1000, maxSilentMs: 9000 },
      /longer/,
    ],
    [
      "silent_timeout",
      `mk "silent" "echo start; sleep 48.11" {}`,
      { timeoutMs: 9000, maxSilentMs: 1000 },
      /nothing for 1 s/,
    ],
  ])("a %s is told from the other", async (failureClass, expression, limits, message) => {
    // A clock without timers switches our own watch off: only the daemon can keep the limit.
    const clock = { ...systemClock, schedule: () => () => {} };
    const { result } = await build(expression, { limits, clock });
    expect(result.failure).toMatchObject({ class: failureClass, message: expect.stringMatching(message) });
    expect(result.build_ms).toBeGreaterThan(900);
  });

  test("the end of the attempt stops the builder at once", async () => {
    const link = new MemoryLink();
    link.onLog = () => link.abort.abort(new AttemptEndedError("cancelled"));
    await expect(build(`mk "abort" "echo go; sleep 46.902" {}`, { link })).rejects.toThrow(AttemptEndedError);
    await expect.poll(() => processesWith("sleep 46.902"), { timeout: 20_000 }).toEqual([]);
  });

  test("a daemon that is gone is a transient failure that says where it was looked for", async () => {
    const other = await withNixDaemon();
    await using environment = environmentOf(other);
    const drvPath = await instantiate(daemon, `mk "gone" "echo > $out" {}`);
    await other[Symbol.asyncDispose]();
    const result = await executeBuild(await requestFor(daemon, drvPath), new MemoryLink(), environment);
    expect(result.failure).toMatchObject({ class: "transient", message: expect.stringContaining(other.socketPath) });
  });

  test("bytes that are not the derivation are refused, and what is none cannot be built", async () => {
    await using environment = environmentOf(daemon);
    const drvPath = await instantiate(daemon, `mk "named" "echo > $out" {}`);
    const other = await requestFor(daemon, await instantiate(daemon, `mk "other" "echo > $out" {}`));
    const swapped = await executeBuild({ ...other, drvPath }, new MemoryLink(), environment);
    expect(swapped.failure).toMatchObject({ class: "transient", message: expect.stringContaining("bytes differ") });
    const broken = await executeBuild({ ...other, aterm: Buffer.from("Derive(") }, new MemoryLink(), environment);
    expect(broken.failure).toMatchObject({ class: "permanent" });
  });

  test("an output that is called like a derivation is not built: a daemon would follow it as a link", async () => {
    await using environment = environmentOf(daemon);
    const aterm = 'Derive([("out.drv","","","")],[],[],"x","/bin/sh",[],[])';
    const drvPath = await instantiate(daemon, `mk "named" "echo > $out" {}`);
    const request = { ...(await requestFor(daemon, drvPath)), aterm: Buffer.from(aterm) };
    const { failure } = await executeBuild(request, new MemoryLink(), environment);
    expect(failure).toMatchObject({ class: "permanent", message: expect.stringContaining("give it another name") });
  });

  test("an upload that the server refuses fails the attempt with the server's words", async () => {
    const pushNar = () => Promise.reject(new UploadRefusedError("the quota is used up"));
    const { result } = await build(`mk "refused" "echo > $out" {}`, { link: new MemoryLink(undefined, { pushNar }) });
    expect(result.failure).toMatchObject({ class: "transient", message: expect.stringContaining("quota") });
  });

  test("an upload that breaks off half way is sent again from its beginning", async () => {
    const store = new MemoryStore();
    const link = new MemoryLink(store, {
      async pushNar(upload) {
        for await (const _ of upload.open()) break;
        await store.store(upload);
      },
    });
    const { result } = await build(`mk "twice-sent" "head -c 3000000 /dev/urandom > $out" {}`, { link });
    expect(result).toMatchObject({ status: "built", failure: null });
    expect(store.nars.size).toBe(1);
  });

  test("20 000 lines arrive complete, in order and byte for byte", async () => {
    const { log } = await build(
      `mk "lines" "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo > $out" {}`,
    );
    expect(log).toBe(Array.from({ length: 20_000 }, (_, index) => `line ${index}\n`).join(""));
  });

  test("a log beyond its limits is cut with a line that says so, and the build goes on", async () => {
    const { result, log } = await build(
      `mk "loud" "for i in 1 2 3 4 5 6 7 8 9; do echo 1234567; done; echo > $out" {}`,
      {
        logLimits: { bytesPerMinute: 24, bytesPerHour: 1000 },
      },
    );
    expect(result).toMatchObject({ status: "built" });
    const lines = log.trimEnd().split("\n");
    expect(lines.slice(0, 3)).toEqual(["1234567", "1234567", "1234567"]);
    expect(lines[3]).toMatch(/^\[gradient: log truncated/);
    expect(lines[4]).toBe("[gradient: 0 bytes are left out here; the end of the log:]");
    expect(lines.slice(5)).toEqual(Array.from({ length: 6 }, () => "1234567"));
  });

  test("what waits for a place keeps nothing from an attempt for the same output that has one", async () => {
    const expression = `mk "placeless" "echo > $out" {}`;
    const waiting = new MemoryLink();
    const place = Promise.withResolvers<void>();
    waiting.place = place.promise;
    const waits = build(expression, { link: waiting });
    await expect.poll(() => waiting.phases, { timeout: 20_000 }).toEqual(["prepared"]);
    expect((await build(expression)).result).toMatchObject({ status: "built" });
    expect(waiting.phases).toEqual(["prepared"]);
    place.resolve();
    expect((await waits).result).toMatchObject({ status: "already_valid" });
  });

  test("two attempts for one output wait for each other here, not in the daemon", async () => {
    const drvPath = await instantiate(daemon, `mk "contended" "sleep 0.3; echo > $out" {}`);
    await using environment = environmentOf(daemon);
    const request = await requestFor(daemon, drvPath);
    const links = [new MemoryLink(), new MemoryLink()];
    const results = await Promise.all(links.map((link) => executeBuild(request, link, environment)));
    expect(results.map(({ status }) => status).sort()).toEqual(["already_valid", "built"]);
    expect(links.map(({ pushed }) => pushed.length)).toEqual([1, 1]);
    // The daemon would say of its lock that another process on this worker builds the output.
    expect(links.map(({ logText }) => logText).join("")).toBe(
      "[gradient: waiting: this worker builds the same output for another attempt]\n",
    );
  });

  test("300 MB go out in memory that does not grow with them", async () => {
    let sent = 0;
    let peak = 0;
    const before = process.memoryUsage().arrayBuffers;
    const link = new MemoryLink(undefined, {
      async pushNar({ open }) {
        for await (const chunk of open()) {
          sent += chunk.length;
          peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
        }
      },
    });
    const { result } = await build(`mk "large" "head -c 300000000 /dev/urandom > $out" {}`, { link });
    expect(result).toMatchObject({ status: "built", failure: null });
    expect(sent).toBeGreaterThan(300_000_000);
    expect(peak).toBeLessThan(100 * MIB);
  });

  test("inputs and outputs are roots while the build runs, and no longer", async () => {
    await using folder = await withTemporaryFolder();
    const link = new MemoryLink();
    let links: string[] = [];
    let roots = "";
    const drvPath = await instantiate(
      daemon,
      `mk "rooted" "echo go; sleep 0.5; echo > $out" { text = builtins.toFile "input" "words"; }`,
    );
    const { inputSources } = await readDerivation(daemon, drvPath);
    const expected = [...inputSources, outputPath(await readDerivation(daemon, drvPath))];
    const looked = Promise.withResolvers<void>();
    link.onLog = async () => {
      const names = await readdir(join(folder.path, link.attemptId));
      links = await Promise.all(names.map((name) => readlink(join(folder.path, link.attemptId, name))));
      roots = await nixOutput(["nix-store", "--gc", "--print-roots"], daemon.env);
      looked.resolve();
    };
    await using environment = environmentOf(daemon, { gcRootsDir: folder.path });
    const result = await executeBuild(await requestFor(daemon, drvPath), link, environment);
    await looked.promise;
    expect(result).toMatchObject({ status: "built" });
    expect(links.sort()).toEqual(expected.sort());
    expect(roots).toContain(join(folder.path, link.attemptId));
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("an output that only the build could place is a root until it is handed over", async () => {
    await using folder = await withTemporaryFolder();
    let links: string[] = [];
    const store = new MemoryStore();
    const link = new MemoryLink(store, {
      async pushNar(upload) {
        const names = await readdir(join(folder.path, link.attemptId));
        links = await Promise.all(names.map((name) => readlink(join(folder.path, link.attemptId, name))));
        await nixOutput(["nix-store", "--gc"], daemon.env);
        await store.store(upload);
      },
    });
    const { result } = await build(
      `mk "rooted-floating" "echo x > $out" {
        __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; }`,
      { link, gcRootsDir: folder.path },
    );
    expect(result).toMatchObject({ status: "built", failure: null });
    expect(links).toEqual(result.outputs.map(({ path }) => path));
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("an input that nothing but the build needs survives a garbage collection while others are fetched", async () => {
    const drvPath = await instantiate(
      daemon,
      `mk "collected" "cat $text > $out" { text = builtins.toFile "held" "held words"; }`,
    );
    const request = await requestFor(daemon, drvPath);
    const absent = storePath(`/nix/store/${"a".repeat(32)}-absent`);
    await nixOutput(["nix-store", "--delete", drvPath], daemon.env);
    let collected: readonly string[] = [];
    const link = new MemoryLink(undefined, {
      async queryCache() {
        using connection = await DaemonConnection.open(daemon.socketPath);
        collected = (await connection.collectGarbage({ action: "deleteDead" })).paths;
        return [];
      },
    });
    await using environment = environmentOf(daemon);
    const result = await executeBuild({ ...request, inputs: [...request.inputs, absent] }, link, environment);
    expect(result.failure).toMatchObject({ class: "inputs_unavailable", missing: [absent] });
    expect(collected.length).toBeGreaterThan(0);
    expect(collected).not.toContain(request.inputs[0]);
    expect(await executeBuild(request, new MemoryLink(), environment)).toMatchObject({ status: "built" });
  });

  test("a folder for roots that cannot be written is reported once, and builds go on", async () => {
    await using folder = await withTemporaryFolder();
    const gcRootsDir = join(folder.path, "file");
    await writeFile(gcRootsDir, "");
    const warnings: string[] = [];
    const log = { ...quietLogger, warn: (message: string) => void warnings.push(message) };
    await using environment = environmentOf(daemon, { gcRootsDir, log });
    for (const name of ["rootless-1", "rootless-2"]) {
      const drvPath = await instantiate(daemon, `mk "${name}" "echo > $out" {}`);
      const result = await executeBuild(await requestFor(daemon, drvPath), new MemoryLink(), environment);
      expect(result).toMatchObject({ status: "built" });
    }
    expect(warnings).toEqual([expect.stringContaining("GC roots cannot be written")]);
  });

  test("roots of attempts that died are cleared, and nothing else in the folder", async () => {
    await using folder = await withTemporaryFolder();
    const dead = join(folder.path, new MemoryLink().attemptId);
    await mkdir(dead);
    await symlink("/nix/store/x", join(dead, "link"));
    await writeFile(join(folder.path, "auto"), "");
    await clearGcRoots(folder.path);
    expect(await readdir(folder.path)).toEqual(["auto"]);
    await clearGcRoots(join(folder.path, "absent"));
  });
});
