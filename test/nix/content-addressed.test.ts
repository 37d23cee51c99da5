import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { byteStringText } from "#core/nix/byte-string.ts";
import { contentAddressFault } from "#core/nix/content-address.ts";
import { parseDerivation } from "#core/nix/derivation.ts";
import { type DerivationHash, inputHashOf, realisationHashOf } from "#core/nix/derivation-hash.ts";
import { outputPlaceholder, resolveDerivation } from "#core/nix/derivation-resolve.ts";
import { parseHash } from "#core/nix/hash.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import {
  formatRealisationId,
  parseRealisation,
  printRealisation,
  type Realisation,
  realisationFingerprints,
} from "#core/nix/realisation.ts";
import { formatSecretKey, generateKeyPair, publicKeyOf, type SecretKey, verify } from "#core/nix/signature.ts";
import { parseStorePath, type StorePath, storePathHash } from "#core/nix/store-path.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { type TemporaryFolder, withTemporaryFolder } from "../support/temporary-folder.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const EXPRESSION = `let
  mk = name: script: extra: derivation ({
    inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
  } // extra);
  ca = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
in rec {
  fixed = mk "fixed" "printf hello > $out" {
    outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    outputHashMode = "flat"; outputHashAlgo = "sha256";
  };
  plain = mk "plain" "cat \${fixed} > $out; echo $out > $dev" { outputs = [ "out" "dev" ]; };
  lib = mk "lib" "mkdir $out; cat \${plain} \${plain.dev} > $out/a; echo $out > $doc" (ca // {
    outputs = [ "out" "doc" ];
  });
  self = mk "self" "mkdir $out; echo $out \${lib} > $out/me" ca;
  flat = mk "flat" "echo flat \${lib.doc} | cut -c1-4 > $out" (ca // { outputHashMode = "flat"; });
  deferred = mk "deferred" "mkdir $out; cat $lib/a > $out/a; echo \${self} $out > $out/b" { inherit lib; };
  top = mk "top" "echo \${deferred} \${self} > $out" ca;
}`;
const NAMES = ["fixed", "plain", "lib", "self", "flat", "deferred", "top"];
const OUTPUTS = [
  ["lib", "out"],
  ["lib", "doc"],
  ["self", "out"],
  ["flat", "out"],
  ["deferred", "out"],
  ["top", "out"],
] as const;

describe.skipIf(!nix.ok)(`what Nix makes of derivations without paths of their own${reason}`, () => {
  let daemon: NixDaemon;
  let folder: TemporaryFolder;
  let key: SecretKey;
  const paths = new Map<string, StorePath>();
  const hashes = new Map<StorePath, DerivationHash>();
  const made = new Map<string, Realisation>();

  const read = async (path: StorePath) => parseDerivation(await readFile(`${daemon.root}${path}`));
  const pathOf = (name: string) => paths.get(name) as StorePath;

  beforeAll(async () => {
    folder = await withTemporaryFolder();
    key = (await generateKeyPair("ca-1")).secretKey;
    const keyFile = join(folder.path, "secret");
    await writeFile(keyFile, formatSecretKey(key));
    daemon = await withNixDaemon({ settings: { "secret-key-files": keyFile } });
    const expression = join(daemon.folder, "ca.nix");
    await writeFile(expression, EXPRESSION);
    for (const name of NAMES) {
      const text = await nixOutput(["nix-instantiate", expression, "-A", name], daemon.env);
      paths.set(name, parseStorePath(text.split("!")[0] as string) as StorePath);
      hashes.set(pathOf(name), await inputHashOf(await read(pathOf(name)), hashes));
    }
    const installables = ["top", "flat", "lib.doc", "deferred"].flatMap((name) => ["-A", name]);
    await nixOutput(["nix-build", "--no-out-link", expression, ...installables], daemon.env);
    const cache = join(folder.path, "cache");
    await mkdir(cache);
    const names = ["top", "flat", "lib", "lib.doc", "self", "deferred"];
    const to = `file://${cache}?compression=none`;
    await nixOutput(["nix", "copy", "--to", to, "--file", expression, ...names], daemon.env);
    for (const [name, output] of OUTPUTS) {
      const hash = await realisationHashOf(await read(pathOf(name)), hashes);
      const file = join(cache, "realisations", `${formatRealisationId({ hash, output })}.doi`);
      const parsed = parseRealisation(await readFile(file, "utf8"));
      if (parsed) made.set(`${name}.${output}`, parsed);
    }
  }, 60_000);

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    await folder?.[Symbol.asyncDispose]();
  });

  test("its realisations have the ids that we compute, and are read and printed alike", async () => {
    expect([...made.keys()]).toEqual(OUTPUTS.map(([name, output]) => `${name}.${output}`));
    for (const realisation of made.values()) {
      const file = join(folder.path, "cache", "realisations", `${formatRealisationId(realisation)}.doi`);
      expect(printRealisation(realisation)).toBe(await readFile(file, "utf8"));
    }
  });

  test("its signatures of realisations cover the text that we sign", async () => {
    for (const [name, realisation] of made) {
      const [text = ""] = realisationFingerprints(realisation);
      const [signature = ""] = realisation.signatures;
      expect(await verify(publicKeyOf(key), text, signature), name).toBe(true);
    }
  });

  test("it resolves a derivation to the bytes that we resolve it to", async () => {
    const places = new Map<StorePath, Map<string, StorePath>>();
    for (const name of ["fixed", "plain"]) {
      const outputs = (await read(pathOf(name))).outputs;
      places.set(pathOf(name), new Map(Array.from(outputs, ([output, { path }]) => [output, path as StorePath])));
    }
    for (const [id, { outPath, output }] of made) {
      const path = pathOf(id.split(".")[0] as string);
      places.set(path, (places.get(path) ?? new Map()).set(output, outPath));
    }
    for (const name of ["lib", "self", "flat", "deferred", "top"]) {
      const resolved = await resolveDerivation(pathOf(name), await read(pathOf(name)), places);
      expect(Buffer.from(await readFile(`${daemon.root}${resolved.drvPath}`)), name).toEqual(
        Buffer.from(resolved.aterm),
      );
      const stated = resolved.derivation.outputs.get("out")?.path;
      expect(stated, name).toBe(name === "deferred" ? made.get("deferred.out")?.outPath : "");
    }
  });

  test("where another derivation's output is not known its placeholder is ours", async () => {
    const { args, env } = await read(pathOf("deferred"));
    expect(byteStringText(env.get("lib") ?? "")).toBe(await outputPlaceholder(pathOf("lib"), "out"));
    expect(byteStringText(args.join(" "))).toContain(await outputPlaceholder(pathOf("self"), "out"));
  });

  test("content addresses that it gives follow from their paths, and others do not", async () => {
    for (const [id, { outPath }] of made) {
      const text = await readFile(join(folder.path, "cache", `${storePathHash(outPath)}.narinfo`), "utf8");
      const info = parseNarInfo(text);
      if (!info) throw new Error(`${id}: no narinfo`);
      const fault = await contentAddressFault(info);
      if (id === "deferred.out") expect(fault, id).toMatch(/is not addressed by its content$/);
      else expect(fault, id).toBeNull();
      const other = parseHash(`sha256:${"1".repeat(64)}`);
      const references = [...info.references, pathOf("top")];
      expect(await contentAddressFault({ ...info, references }), id).not.toBeNull();
      const isOfNar = info.ca?.startsWith("fixed:r:") && !info.references.includes(info.storePath);
      if (isOfNar && other) expect(await contentAddressFault({ ...info, narHash: other })).toMatch(/holds other bytes/);
    }
  });
});
