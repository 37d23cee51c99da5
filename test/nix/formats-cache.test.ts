import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { formatHash, type Hash, sha256 } from "#core/nix/hash.ts";
import { type NarEvent, validateNar } from "#core/nix/nar-reader.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import { type NarInfo, parseNarInfo, printNarInfo } from "#core/nix/narinfo.ts";
import {
  fingerprint,
  formatPublicKey,
  formatSecretKey,
  generateKeyPair,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  sign,
  verify,
} from "#core/nix/signature.ts";
import { makeSourcePath, makeTextPath, STORE_DIR, type StorePath, storePathHash } from "#core/nix/store-path.ts";
import { type NixDaemon, type NixRun, nixAvailable, nixOutput, runNix, withNixDaemon } from "#test/support/nix.ts";

const nix = nixAvailable();
const NAR_BYTES_MAX = 1024 * 1024;

const EXPRESSION = `
let
  mk = name: cmd: extra: derivation ({
    inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" cmd ]; PATH = "/usr/bin:/bin";
  } // extra);
in rec {
  self = mk "self" "mkdir $out; echo $out > $out/self" {};
  multi = mk "multi" "mkdir $out $dev $lib; echo lib > $lib/l; echo $lib > $dev/x; echo $lib $dev > $out/o" {
    outputs = [ "out" "dev" "lib" ];
  };
  both = mk "both" "echo \${self} \${multi} > $out" {};
  fixed = mk "fixed" "printf hello > $out" {
    outputHashMode = "flat"; outputHashAlgo = "sha256";
    outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  };
  text = builtins.toFile "text" "some text";
}
`;

const title = `a cache, with Nix as the oracle (${nix.ok ? nix.version : nix.reason})`;

describe.skipIf(!nix.ok)(title, () => {
  let daemon: NixDaemon;

  beforeAll(async () => {
    daemon = await withNixDaemon();
  });

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  describe("that Nix wrote", () => {
    let narInfos: string[];
    let keyText: string;

    beforeAll(async () => {
      const [secret, pub] = [join(daemon.folder, "secret"), join(daemon.folder, "public")];
      await nixOutput(["nix-store", "--generate-binary-cache-key", "test-1", secret, pub], daemon.env);
      keyText = await readFile(secret, "utf8");
      const file = join(daemon.folder, "cache.nix");
      await writeFile(file, EXPRESSION);
      const built = ["both", "fixed", "multi.out"].flatMap((attribute) => ["-A", attribute]);
      const outputs = await nixOutput(["nix-build", "--no-out-link", file, ...built], daemon.env);
      const evaluate = ["--eval", "--read-write-mode", "--json"];
      const text = await nixOutput(["nix-instantiate", ...evaluate, file, "-A", "text"], daemon.env);
      const cache = `file://${join(daemon.folder, "written-by-nix")}?compression=none&secret-key=${secret}`;
      const paths = [...outputs.split("\n"), JSON.parse(text) as string];
      await nixOutput(["nix", "copy", "--to", cache, ...paths], daemon.env);
      narInfos = await readNarInfos(join(daemon.folder, "written-by-nix"));
    });

    test("each narinfo is printed back to the letter", () => {
      expect(narInfos.length).toBe(7);
      for (const text of narInfos) expect(printNarInfo(parseNarInfo(text))).toBe(text);
      const infos = narInfos.map(parseNarInfo);
      expect(infos.some((info) => info.references.includes(info.storePath))).toBe(true);
      expect(infos.filter((info) => info.ca !== null).length).toBe(2);
      expect(infos.some((info) => info.references.length === 0)).toBe(true);
    });

    test("each signature is verified, and is the one that we make with the same key", async () => {
      const secretKey = parseSecretKey(keyText.trim());
      const publicKey = parsePublicKey((await readFile(join(daemon.folder, "public"), "utf8")).trim());
      if (!secretKey || !publicKey) throw new Error("a key that Nix wrote was refused");
      expect(publicKeyOf(secretKey)).toEqual(publicKey);
      expect(formatSecretKey(secretKey)).toBe(keyText.trim());
      for (const info of narInfos.map(parseNarInfo)) {
        const [signature = ""] = info.signatures;
        expect(await verify(publicKey, fingerprint(info), signature), info.storePath).toBe(true);
        expect(await verify(publicKey, fingerprint({ ...info, narSize: info.narSize + 1 }), signature)).toBe(false);
        expect(await sign(secretKey, fingerprint(info))).toBe(signature);
      }
    });

    test("each NAR is a valid one of the stated hash and size", async () => {
      for (const info of narInfos.map(parseNarInfo)) {
        const bytes = await readFile(join(daemon.folder, "written-by-nix", info.url));
        expect((await collect(validateNar(streamOf(bytes)), NAR_BYTES_MAX)).length).toBe(info.narSize);
        expect(await sha256(bytes)).toEqual(info.narHash.digest);
      }
    });
  });

  describe("that we wrote", () => {
    /** Asks Nix to take a path from the cache into a store that has nothing yet. */
    async function realise(cache: string, path: StorePath, publicKeys: string, name: string): Promise<NixRun> {
      const root = join(daemon.folder, name);
      const options = Object.entries({ substituters: `file://${cache}`, "trusted-public-keys": publicKeys });
      const flags = options.flatMap(([option, value]) => ["--option", option, value]);
      // Answers about paths are cached by the cache's address in the home folder.
      const env = { ...daemon.env, HOME: root, XDG_CACHE_HOME: join(root, "cache") };
      return await runNix(["nix-store", "--store", root, ...flags, "--realise", path], env);
    }

    test("is accepted with our signature, references and all, and refused with another key's", async () => {
      const { secretKey, publicKey } = await generateKeyPair("cache.example.org-main");
      const other = await generateKeyPair("cache.example.org-main");
      const cache = await emptyCache("ours");
      const library = await makeTextPath("library", utf8("library"), []);
      const program = await makeTextPath("program", utf8("program"), []);
      const signed = async (info: NarInfo) => [await sign(secretKey, fingerprint(info))];
      await addPath(cache, library, treeOf("library"), { references: [], signatures: signed });
      await addPath(cache, program, treeOf(library), { references: [program, library], signatures: signed });

      const taken = await realise(cache, program, formatPublicKey(publicKey), "fresh");
      expect(taken).toMatchObject({ code: 0 });
      expect(await readFile(join(daemon.folder, "fresh", program, "file"), "utf8")).toBe(library);
      expect(await readFile(join(daemon.folder, "fresh", library, "file"), "utf8")).toBe("library");

      const refused = await realise(cache, program, formatPublicKey(other.publicKey), "suspicious");
      expect(refused.code).not.toBe(0);
    });

    test("is accepted without any signature when the content proves the path", async () => {
      const cache = await emptyCache("content-addressed");
      const nar = await collect(writeNar(treeOf("proved")), NAR_BYTES_MAX);
      const narHash: Hash = { algorithm: "sha256", digest: await sha256(nar) };
      const path = await makeSourcePath("proved", narHash.digest, []);
      const ca = `fixed:r:${formatHash(narHash, "nix32")}`;
      await addPath(cache, path, treeOf("proved"), { references: [], signatures: async () => [], ca });
      expect(await realise(cache, path, "", "proved")).toMatchObject({ code: 0 });
    });
  });

  async function emptyCache(name: string): Promise<string> {
    const cache = join(daemon.folder, name);
    await mkdir(join(cache, "nar"), { recursive: true });
    await writeFile(join(cache, "nix-cache-info"), `StoreDir: ${STORE_DIR}\n`);
    return cache;
  }
});

interface AddedPath {
  readonly references: readonly StorePath[];
  readonly signatures: (info: NarInfo) => Promise<string[]>;
  readonly ca?: string;
}

async function addPath(cache: string, storePath: StorePath, tree: NarEvent[], added: AddedPath): Promise<void> {
  const { references, signatures, ca = null } = added;
  const nar = await collect(writeNar(tree), NAR_BYTES_MAX);
  const narHash: Hash = { algorithm: "sha256", digest: await sha256(nar) };
  const url = `nar/${storePathHash(storePath)}.nar`;
  const sizes = { fileHash: narHash, fileSize: nar.length, narHash, narSize: nar.length };
  const unsigned = { storePath, url, compression: "none", ...sizes, references, deriver: null, signatures: [], ca };
  const info: NarInfo = { ...unsigned, signatures: await signatures(unsigned) };
  await writeFile(join(cache, url), nar);
  await writeFile(join(cache, `${storePathHash(storePath)}.narinfo`), printNarInfo(info));
}

function treeOf(content: string): NarEvent[] {
  const bytes = utf8(content);
  return [
    { kind: "directory", name: "" },
    { kind: "file", name: "file", executable: false, size: bytes.length, offset: 0 },
    { kind: "content", bytes },
    { kind: "symlink", name: "link", target: "file" },
    { kind: "directoryEnd" },
  ];
}

async function readNarInfos(cache: string): Promise<string[]> {
  const names = (await readdir(cache)).filter((name) => name.endsWith(".narinfo"));
  return await Promise.all(names.map((name) => readFile(join(cache, name), "utf8")));
}
