import { chmod, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Bytes, fromHex, toHex } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { decodeBase32, encodeBase32 } from "#core/nix/base32.ts";
import {
  type Derivation,
  derivationFacts,
  parseDerivation,
  printDerivation,
  verifyDerivationPath,
} from "#core/nix/derivation.ts";
import { formatHash, type HashAlgorithm, parseHash, sha256 } from "#core/nix/hash.ts";
import { type NarEvent, readNar, validateNar } from "#core/nix/nar-reader.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import {
  makeFixedOutputPath,
  makeSourcePath,
  makeTextPath,
  parseStorePath,
  parseStorePathBaseName,
  type StorePath,
  storePathBaseName,
  storePathName,
} from "#core/nix/store-path.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "#test/support/nix.ts";

const nix = nixAvailable();
const HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const NAR_BYTES_MAX = 64 * 1024 * 1024;

/** Written as latin1: `odd` holds bytes that are not UTF-8. */
const EXPRESSION = `
let
  mk = name: cmd: extra: derivation ({
    inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" cmd ];
  } // extra);
in rec {
  a = mk "a" "echo A > $out" {};
  b = mk "b" "echo B $a > $out" { inherit a; };
  multi = mk "multi" "mkdir $out $dev $lib" { outputs = [ "out" "dev" "lib" ]; PATH = "/usr/bin:/bin"; };
  c = mk "c" "echo \${b} \${multi.dev}/x \${multi.lib} > $out" {};
  sources = mk "sources" "cat \${./source.txt} \${builtins.toFile "text" "refers to \${./source.txt}"} > $out" {};
  escapes = mk "escapes" "quote \\" backslash \\\\ line \\n tab \\t return \\r dollar \\\${x}" { empty = ""; };
  odd = mk "odd" "umlaut \xe4 byte \xff" { "n\xe4me" = "\xfe"; };
  flat = mk "flat" "printf hello > $out" {
    outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "${HELLO}";
  };
  recursive = mk "recursive" "exit 1" {
    outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = "${HELLO}";
  };
  sha1 = mk "sha1" "exit 1" {
    outputHashMode = "recursive"; outputHashAlgo = "sha1"; outputHash = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
  };
  picky = mk "picky" "exit 1" {
    pname = "picky-program"; requiredSystemFeatures = [ "kvm" "big-parallel" ];
    preferLocalBuild = true; allowSubstitutes = false; timeout = 60; maxSilent = 5;
  };
  structured = mk "structured" "exit 1" {
    __structuredAttrs = true; pname = "picky-program"; requiredSystemFeatures = [ "kvm" "big-parallel" ];
    preferLocalBuild = true; allowSubstitutes = false; timeout = 60; maxSilent = 5; outputs = [ "out" "dev" ];
  };
  floating = mk "floating" "echo x > $out" {
    __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
  };
  deferred = mk "deferred" "echo \${floating} > $out" {};
}
`;

function hashText(algorithm: HashAlgorithm, hex: string): string {
  return `${algorithm}:${hex}`;
}

const title = `formats, with Nix as the oracle (${nix.ok ? nix.version : nix.reason})`;

describe.skipIf(!nix.ok)(title, () => {
  let daemon: NixDaemon;
  /** The paths of the derivations by their names in the expression. */
  const paths = new Map<string, StorePath>();

  beforeAll(async () => {
    daemon = await withNixDaemon();
    const file = join(daemon.folder, "formats.nix");
    await writeFile(file, EXPRESSION, "latin1");
    await writeFile(join(daemon.folder, "source.txt"), "a source\n");
    const printed = await nixOutput(["nix-instantiate", file], daemon.env);
    for (const line of printed.split("\n")) {
      const path = parseStorePath(line);
      if (!path) throw new Error(`nix-instantiate printed ${line}`);
      paths.set(storePathName(path).slice(0, -".drv".length), path);
    }
  });

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  function filePath(path: StorePath): string {
    return join(daemon.root, path);
  }

  async function derivation(name: string): Promise<Derivation> {
    return parseDerivation(await readFile(filePath(paths.get(name) as StorePath)));
  }

  test("hashes are written as nix-hash writes them, and read back", async () => {
    const digests: [HashAlgorithm, string][] = [
      ["md5", "5d41402abc4b2a76b9719d911017c592"],
      ["sha1", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"],
      ["sha256", HELLO],
      ["sha512", HELLO + HELLO.split("").reverse().join("")],
    ];
    for (const [algorithm, hex] of digests) {
      const nix32 = await nixOutput(["nix-hash", "--type", algorithm, "--to-base32", hex], daemon.env);
      const sri = await nixOutput(["nix", "hash", "to-sri", "--type", algorithm, hex], daemon.env);
      expect(encodeBase32(fromHex(hex) as Bytes)).toBe(nix32);
      expect(toHex(decodeBase32(nix32) as Bytes)).toBe(hex);
      const hash = parseHash(`${algorithm}:${nix32}`);
      expect(hash && formatHash(hash, "sri")).toBe(sri);
      expect(hash && formatHash(hash, "hex")).toBe(hashText(algorithm, hex));
      expect(parseHash(sri)).toEqual(hash);
    }
  });

  test("every derivation that Nix wrote is printed back byte for byte, and its path recomputed", async () => {
    const names = (await readdir(join(daemon.root, "nix/store"))).filter((name) => name.endsWith(".drv"));
    expect(names.length).toBe(paths.size);
    for (const name of names) {
      const path = parseStorePathBaseName(name) as StorePath;
      const bytes = await readFile(filePath(path));
      expect(Buffer.from(printDerivation(parseDerivation(bytes))).equals(bytes), name).toBe(true);
      expect(await verifyDerivationPath(path, bytes), name).toBe(true);
    }
  });

  test("bytes that are not UTF-8 are kept in names, values and arguments", async () => {
    const odd = await derivation("odd");
    expect(odd.env.get("n\xe4me")).toBe("\xfe");
    expect(odd.args).toEqual(["-c", "umlaut \xe4 byte \xff"]);
  });

  test("outputs and inputs are the ones that Nix knows", async () => {
    const c = await derivation("c");
    expect(Object.fromEntries(c.inputDerivations)).toEqual({
      [paths.get("b") as string]: ["out"],
      [paths.get("multi") as string]: ["dev", "lib"],
    });
    for (const name of ["a", "multi", "sources", "sha1", "structured"]) {
      const drv = paths.get(name) as string;
      const known = await nixOutput(["nix-store", "--query", "--outputs", drv], daemon.env);
      const outputs = derivationFacts(await derivation(name)).outputs.map((output) => output.path);
      expect(outputs.toSorted()).toEqual(known.split("\n").toSorted());
    }
    const { inputSources } = await derivation("sources");
    expect(inputSources.map(storePathName).toSorted()).toEqual(["source.txt", "text"]);
  });

  test("the scheduler's facts are read from plain and structured attributes alike", async () => {
    for (const name of ["picky", "structured"]) {
      expect(derivationFacts(await derivation(name)), name).toMatchObject({
        name,
        pname: "picky-program",
        system: "x86_64-linux",
        requiredSystemFeatures: ["kvm", "big-parallel"],
        preferLocalBuild: true,
        allowSubstitutes: false,
        timeoutSeconds: 60,
        maxSilentSeconds: 5,
      });
    }
    expect(derivationFacts(await derivation("flat"))).toMatchObject({ isFixedOutput: true, isContentAddressed: false });
    expect(derivationFacts(await derivation("floating"))).toMatchObject({
      isContentAddressed: true,
      isDeferred: false,
    });
    expect(derivationFacts(await derivation("deferred"))).toMatchObject({ isDeferred: true, isFixedOutput: false });
  });

  test("fixed outputs, texts and sources go where Nix puts them", async () => {
    const fixed = [
      ["flat", false, hashText("sha256", HELLO)],
      ["recursive", true, hashText("sha256", HELLO)],
      ["sha1", true, "sha1:aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"],
    ] as const;
    for (const [name, recursive, text] of fixed) {
      const hash = parseHash(text);
      const expected = (await derivation(name)).outputs.get("out")?.path;
      expect(hash && (await makeFixedOutputPath(name, { recursive, hash })), name).toBe(expected);
    }
    const { inputSources } = await derivation("sources");
    const [source, text] = inputSources.toSorted((a, b) => storePathName(a).localeCompare(storePathName(b)));
    if (!source || !text) throw new Error("the derivation has two sources");
    expect(await makeTextPath("text", await readFile(filePath(text)), [source])).toBe(text);
    const nar = await dump(filePath(source));
    expect(await makeSourcePath("source.txt", await sha256(nar), [])).toBe(source);
  });

  test("names with a leading dot are paths, as Nix makes them", async () => {
    const file = join(daemon.folder, ".hidden");
    await writeFile(file, "x");
    const path = parseStorePath(await nixOutput(["nix-store", "--add", file], daemon.env));
    expect(path && storePathBaseName(path)).toMatch(/-\.hidden$/);
  });

  async function dump(path: string): Promise<Buffer> {
    const file = join(daemon.folder, "dump.nar");
    await nixOutput(["sh", "-c", 'nix-store --dump "$1" > "$2"', "dump", path, file], daemon.env);
    return await readFile(file);
  }

  test("a NAR that Nix dumped is read and written again byte for byte", async () => {
    const tree = join(daemon.folder, "tree");
    await makeTree(tree);
    const nar = await dump(tree);
    const chunks = Array.from({ length: Math.ceil(nar.length / 5000) }, (_, i) =>
      nar.subarray(i * 5000, (i + 1) * 5000),
    );
    const events: NarEvent[] = [];
    for await (const event of readNar(streamOf(...chunks))) events.push(event);

    expect(Buffer.from(await collect(writeNar(events), NAR_BYTES_MAX)).equals(nar)).toBe(true);
    expect((await collect(validateNar(streamOf(...chunks)), NAR_BYTES_MAX)).length).toBe(nar.length);
    expect(events).toContainEqual({ kind: "symlink", name: "dangling", target: "/does/not/exist" });
    expect(events).toContainEqual(expect.objectContaining({ kind: "file", name: "run", executable: true }));
    expect(events.some((event) => event.kind === "file" && event.name === "f\xff")).toBe(true);
  });

  test("a NAR of ours is restored by Nix as the same tree", async () => {
    const tree = join(daemon.folder, "written");
    await makeTree(tree);
    const nar = await dump(tree);
    const file = join(daemon.folder, "ours.nar");
    await writeFile(file, await collect(writeNar(readNar(streamOf(nar))), NAR_BYTES_MAX));
    const restored = join(daemon.folder, "restored");
    await nixOutput(["sh", "-c", 'nix-store --restore "$1" < "$2"', "restore", restored, file], daemon.env);
    expect((await dump(restored)).equals(nar)).toBe(true);
  });
});

/** One of everything a NAR can hold. */
async function makeTree(root: string): Promise<void> {
  await mkdir(join(root, "dir/empty"), { recursive: true });
  await writeFile(join(root, "dir/run"), "#!/bin/sh\n");
  await chmod(join(root, "dir/run"), 0o755);
  for (const size of [0, 1, 7, 8, 9, 300_000]) await writeFile(join(root, `size-${size}`), Buffer.alloc(size, "x"));
  for (const name of ["a", "a.b", "a-b", "aB", "ä"]) await writeFile(join(root, name), name);
  await writeFile(Buffer.concat([Buffer.from(join(root, "f")), Buffer.of(0xff)]), "not UTF-8");
  await symlink("/does/not/exist", join(root, "dangling"));
}
