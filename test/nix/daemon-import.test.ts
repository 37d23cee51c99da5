import { createHash, randomBytes } from "node:crypto";
import { chmod, truncate } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, streamOf } from "#core/lib/streams.ts";
import { DaemonError } from "#core/nix/daemon/errors.ts";
import type { DaemonPathInfo } from "#core/nix/daemon/path-info.ts";
import { type StorePath, storePathHash } from "#core/nix/store-path.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { type NarImport, NarSizeError } from "#worker/daemon/nar.ts";
import { basicDerivation, instantiate, outputPath, readDerivation, storePath } from "../support/derivations.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";

const nix = nixAvailable();
const MIB = 1024 * 1024;
const NOWHERE = storePath("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nowhere");

describe.skipIf(!nix.ok)(`NARs through the nix-daemon (${nix.ok ? nix.version : nix.reason})`, () => {
  let source: NixDaemon;
  let target: NixDaemon;
  beforeAll(async () => {
    [source, target] = await Promise.all([withNixDaemon(), withNixDaemon()]);
  });
  afterAll(async () => {
    await Promise.all([source[Symbol.asyncDispose](), target[Symbol.asyncDispose]()]);
  });

  async function buildAtSource(expression: string): Promise<DaemonPathInfo> {
    const drvPath = await instantiate(source, expression);
    await nixOutput(["nix-store", "--realise", drvPath], source.env);
    return await infoAtSource(outputPath(await readDerivation(source, drvPath)));
  }

  async function infoAtSource(path: StorePath): Promise<DaemonPathInfo> {
    using connection = await DaemonConnection.open(source.socketPath);
    const info = await connection.queryPathInfo(path);
    if (!info) throw new Error(`${path} is not there`);
    return info;
  }

  async function narAtSource(info: DaemonPathInfo): Promise<Uint8Array> {
    using connection = await DaemonConnection.open(source.socketPath);
    return await collect(connection.narFromPath(info), 100 * MIB);
  }

  test("a NAR comes out as recorded: size and hash, and the connection goes on", async () => {
    const info = await buildAtSource(`mk "tree" "mkdir $out; echo a > $out/contents; ln -s name $out/name" {}`);
    using connection = await DaemonConnection.open(source.socketPath);
    const nar = await collect(connection.narFromPath(info), MIB);

    expect(nar.length).toBe(info.narSize);
    expect(createHash("sha256").update(nar).digest()).toEqual(Buffer.from(info.narHash.digest));
    expect(connection.usable).toBe(true);
    expect(await connection.queryPathFromHashPart(storePathHash(info.path))).toBe(info.path);
    expect(await connection.queryPathFromHashPart("0".repeat(32))).toBeNull();
    expect(await connection.queryPathInfo(NOWHERE)).toBeNull();
    expect(await connection.queryValidPaths([info.path, NOWHERE])).toEqual(new Set([info.path]));
  });

  test("30 MB go from one store into another, and a reader that pauses holds little in memory", async () => {
    const info = await buildAtSource(`mk "big" "head -c 30000000 /dev/urandom > $out" {}`);
    using from = await DaemonConnection.open(source.socketPath);
    using to = await DaemonConnection.open(target.socketPath);
    let pausedGrowth = Number.POSITIVE_INFINITY;
    async function* pausing(): AsyncGenerator<Uint8Array> {
      let seen = 0;
      for await (const chunk of from.narFromPath(info)) {
        yield chunk;
        seen += chunk.length;
        if (seen < MIB || pausedGrowth !== Number.POSITIVE_INFINITY) continue;
        const before = process.memoryUsage().arrayBuffers;
        await sleep(200);
        pausedGrowth = process.memoryUsage().arrayBuffers - before;
      }
    }
    await to.addToStoreNar(info, pausing(), { checkSignatures: false });

    expect(pausedGrowth).toBeLessThan(2 * MIB);
    expect(await to.queryPathInfo(info.path)).toMatchObject({ narSize: info.narSize, ultimate: false });
    expect((await to.queryPathInfo(info.path))?.narHash).toEqual(info.narHash);
    expect([from.usable, to.usable]).toEqual([true, true]);
  });

  test("leaving a NAR half read closes the connection", async () => {
    const info = await buildAtSource(`mk "left" "head -c 3000000 /dev/zero > $out" {}`);
    using connection = await DaemonConnection.open(source.socketPath);
    for await (const _chunk of connection.narFromPath(info)) break;
    expect(connection.usable).toBe(false);
  });

  test.each(["shorter", "longer"])("files that became %s on disk are noticed, not waited for", async (change) => {
    const info = await buildAtSource(`mk "damaged-${change}" "head -c 100000 /dev/zero > $out" {}`);
    const file = join(source.root, info.path);
    await chmod(file, 0o644);
    await truncate(file, change === "shorter" ? 50_000 : 200_000);
    using connection = await DaemonConnection.open(source.socketPath);
    await expect(collect(connection.narFromPath(info), MIB)).rejects.toThrow(NarSizeError);
    expect(connection.usable).toBe(false);
  });

  test("a NAR of a path that is not there is an error, not bytes", async () => {
    using connection = await DaemonConnection.open(source.socketPath);
    await expect(collect(connection.narFromPath({ path: NOWHERE, narSize: 1000 }), MIB)).rejects.toThrow();
  });

  test("an unsigned path is refused where signatures are checked, and the connection goes on", async () => {
    const info = await buildAtSource(`mk "unsigned" "echo u > $out" {}`);
    const nar = await narAtSource(info);
    using connection = await DaemonConnection.open(target.socketPath);
    await expect(connection.addToStoreNar(info, streamOf(nar))).rejects.toThrow(/lacks a.* signature/);
    expect(connection.usable).toBe(true);

    await connection.addToStoreNar(info, streamOf(nar), { checkSignatures: false });
    expect(await connection.isValidPath(info.path)).toBe(true);
    await connection.addSignatures(info.path, [`key-1:${randomBytes(64).toString("base64")}`]);
    expect((await connection.queryPathInfo(info.path))?.signatures).toHaveLength(1);
  });

  test("bytes with another hash are refused", async () => {
    const info = await buildAtSource(`mk "hash" "echo h > $out" {}`);
    const nar = await narAtSource(info);
    const other = { ...info, narHash: { ...info.narHash, digest: new Uint8Array(randomBytes(32)) } };
    using connection = await DaemonConnection.open(target.socketPath);
    const adding = connection.addToStoreNar(other, streamOf(nar), { checkSignatures: false });
    await expect(adding).rejects.toThrow(/hash mismatch/);
    await expect(adding).rejects.toBeInstanceOf(DaemonError);
    expect(await connection.isValidPath(info.path)).toBe(false);
  });

  test("a path whose reference is missing is refused", async () => {
    const info = await buildAtSource(`mk "referrer" "echo \${mk "referenced" "echo r > $out" {}} > $out" {}`);
    expect(info.references).toHaveLength(1);
    using connection = await DaemonConnection.open(target.socketPath);
    const adding = connection.addToStoreNar(info, streamOf(await narAtSource(info)), { checkSignatures: false });
    await expect(adding).rejects.toThrow(/is not valid/);
    expect(connection.usable).toBe(true);
    expect(await connection.isValidPath(info.path)).toBe(false);
  });

  test.each([
    ["ends early", -8],
    ["is too long", 8],
  ])("a NAR that %s registers nothing", async (_name, difference) => {
    const info = await buildAtSource(`mk "size" "echo size > $out" {}`);
    const nar = new Uint8Array(info.narSize + difference);
    nar.set((await narAtSource(info)).subarray(0, nar.length));
    using connection = await DaemonConnection.open(target.socketPath);
    const adding = connection.addToStoreNar(info, streamOf(nar), { checkSignatures: false });
    await expect(adding).rejects.toThrow(NarSizeError);
    expect(connection.usable).toBe(false);
    using other = await DaemonConnection.open(target.socketPath);
    expect(await other.isValidPath(info.path)).toBe(false);
  });

  test("a source that fails half way registers nothing, and its own error is what is thrown", async () => {
    const info = await buildAtSource(`mk "broken" "head -c 1000000 /dev/zero > $out" {}`);
    const nar = await narAtSource(info);
    const fault = new DaemonError({ level: 0, message: "the other daemon failed", traces: [] });
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield nar.subarray(0, 500_000);
      throw fault;
    }
    using connection = await DaemonConnection.open(target.socketPath);
    await expect(connection.addToStoreNar(info, broken(), { checkSignatures: false })).rejects.toBe(fault);
    expect(connection.usable).toBe(false);
    using other = await DaemonConnection.open(target.socketPath);
    expect(await other.isValidPath(info.path)).toBe(false);
  });

  test("aborting an import whose source hangs rejects with the reason", async () => {
    const info = await buildAtSource(`mk "hanging" "echo hanging > $out" {}`);
    const abort = new AbortController();
    async function* hanging(): AsyncGenerator<Uint8Array> {
      setTimeout(() => abort.abort(new Error("enough")), 20);
      await new Promise(() => {});
      yield new Uint8Array();
    }
    using connection = await DaemonConnection.open(target.socketPath);
    await expect(connection.addToStoreNar(info, hanging(), { signal: abort.signal })).rejects.toThrow("enough");
  });

  test("a worker copies the inputs and builds by value: the .drv need not be in its store", async () => {
    const drvPath = await instantiate(
      source,
      `mk "by-value" "cat $dep $text > $out; echo done" {
        dep = mk "input" "echo \${mk "deep" "echo deep > $out" {}} > $out" {};
        text = builtins.toFile "text" "words\\n"; }`,
    );
    const derivation = await basicDerivation(source, drvPath);
    for (const path of (await readDerivation(source, drvPath)).inputDerivations.keys()) {
      await nixOutput(["nix-store", "--realise", path], source.env);
    }
    const closure = await nixOutput(["nix-store", "-qR", ...derivation.inputSources], source.env);
    const infos = await Promise.all(closure.split("\n").map((path) => infoAtSource(storePath(path))));
    async function* items(): AsyncGenerator<NarImport> {
      for (const info of infos) yield { info, nar: streamOf(await narAtSource(info)) };
    }

    using worker = await DaemonConnection.open(target.socketPath);
    await worker.addMultipleToStore(items(), infos.length, { checkSignatures: false });
    const result = await worker.buildDerivation(drvPath, derivation);

    expect(result).toMatchObject({ status: "built", success: true });
    expect(await worker.isValidPath(drvPath)).toBe(false);
    const output = await worker.queryPathInfo(outputPath(derivation));
    expect(output).toMatchObject({ ultimate: true, deriver: drvPath });
    await nixOutput(["nix-store", "--realise", drvPath], source.env);
    expect((await infoAtSource(outputPath(derivation))).narHash).toEqual(output?.narHash);
  });

  test.each([
    ["a NAR of another size", 1, 1, NarSizeError],
    ["fewer paths than announced", 2, 0, RangeError],
    ["more paths than announced", 0, 0, RangeError],
  ])("importing %s is refused", async (_name, count, sizeDifference, kind) => {
    const info = await buildAtSource(`mk "counted" "echo counted > $out" {}`);
    async function* items(): AsyncGenerator<NarImport> {
      yield { info: { ...info, narSize: info.narSize + sizeDifference }, nar: streamOf(await narAtSource(info)) };
    }
    using connection = await DaemonConnection.open(target.socketPath);
    await expect(connection.addMultipleToStore(items(), count, { checkSignatures: false })).rejects.toThrow(kind);
    expect(connection.usable).toBe(false);
  });

  test("importing several paths stops at one that is refused, and the connection goes on", async () => {
    const first = await buildAtSource(`mk "first" "echo 1 > $out" {}`);
    const second = await buildAtSource(`mk "second" "echo 2 > $out" {}`);
    const wrong = { ...second, narHash: first.narHash };
    async function* items(): AsyncGenerator<NarImport> {
      for (const info of [first, second]) {
        yield { info: info === second ? wrong : info, nar: streamOf(await narAtSource(info)) };
      }
    }
    using connection = await DaemonConnection.open(target.socketPath);
    const adding = connection.addMultipleToStore(items(), 2, { checkSignatures: false });
    await expect(adding).rejects.toThrow(/hash mismatch/);
    expect(connection.usable).toBe(true);
    expect(await connection.queryValidPaths([first.path, second.path])).toEqual(new Set([first.path]));
  });
});
