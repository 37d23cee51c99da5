import { expect, test } from "vitest";
import { type Derivation, derivationReferences, printDerivation } from "#core/nix/derivation.ts";
import { derivationPath, type StorePath } from "#core/nix/store-path.ts";
import { EvaluationError } from "./errors.ts";
import { RealisationHashes } from "./realisation-hashes.ts";

const FLOATING = new Map([["out", { path: "", hashAlgorithm: "r:sha256", hash: "" }]]);
const FIXED = new Map([
  ["out", { path: `/nix/store/${"0".repeat(32)}-fixed`, hashAlgorithm: "sha256", hash: "a".repeat(64) }],
]);

/** Derivations in memory, which counts how often each is read. */
class Files {
  readonly reads = new Map<StorePath, number>();
  readonly #known = new Map<StorePath, Derivation>();

  async add(name: string, changes: Partial<Derivation> = {}): Promise<{ path: StorePath; derivation: Derivation }> {
    const derivation: Derivation = {
      outputs: FLOATING,
      inputDerivations: new Map(),
      inputSources: [],
      system: "x86_64-linux",
      builder: "/bin/sh",
      args: [],
      env: new Map([["name", name]]),
      ...changes,
    };
    const path = await derivationPath(name, printDerivation(derivation), derivationReferences(derivation));
    this.#known.set(path, derivation);
    return { path, derivation };
  }

  forget(path: StorePath): void {
    this.#known.delete(path);
  }

  async read(path: StorePath) {
    this.reads.set(path, (this.reads.get(path) ?? 0) + 1);
    const derivation = this.#known.get(path);
    if (!derivation) throw new EvaluationError("derivation_unreadable", `${path} cannot be read`);
    return { derivation, aterm: printDerivation(derivation) };
  }
}

function needing(...paths: StorePath[]) {
  return { inputDerivations: new Map(paths.toSorted().map((path) => [path, ["out"]])) };
}

function hashesOf(files: Files, derivationsMax = 100_000) {
  return new RealisationHashes({ files, derivationsMax, check: () => {} });
}

test("a chain of 5 000 is hashed without a deep stack, and read no more often than twice", async () => {
  const files = new Files();
  let { path } = await files.add("link-0");
  for (let i = 1; i < 5_000; i++) ({ path } = await files.add(`link-${i}`, needing(path)));
  const { derivation } = await files.add("top", needing(path));
  const hashes = hashesOf(files);
  const found = await Promise.all([hashes.of(derivation), hashes.of(derivation), hashes.of(derivation)]);
  expect(new Set(found)).toEqual(new Set([expect.stringMatching(/^[0-9a-f]{64}$/)]));
  expect(Math.max(...files.reads.values())).toBe(2);
});

test("how a fixed output is made does not matter, and is not looked at", async () => {
  const files = new Files();
  const below = await files.add("below");
  const one = await files.add("fixed", { outputs: FIXED, ...needing(below.path) });
  const two = await files.add("fixed", { outputs: FIXED, args: ["another mirror"] });
  files.forget(below.path);
  const hashes = hashesOf(files);
  const above = async (path: StorePath) => await hashes.of((await files.add("above", needing(path))).derivation);
  expect(one.path).not.toBe(two.path);
  expect(await above(one.path)).toBe(await above(two.path));
  expect(await above(one.path)).not.toBeNull();
});

test("nothing is said of what rests on something unreadable, or on too much; the rest goes on", async () => {
  const files = new Files();
  const [below, lost] = [await files.add("below"), await files.add("lost")];
  const above = await files.add("above", needing(below.path, lost.path));
  files.forget(lost.path);
  const hashes = hashesOf(files);
  expect(await hashes.of(above.derivation)).toBeNull();
  expect(await hashes.of((await files.add("beside", needing(below.path))).derivation)).not.toBeNull();
  const fixed = await files.add("fixed", { outputs: FIXED });
  const odd = await files.add("odd", { inputDerivations: new Map([[fixed.path, ["no such output"]]]) });
  expect(await hashes.of(odd.derivation)).toBeNull();
  expect(await hashesOf(files, 0).of((await files.add("beside", needing(below.path))).derivation)).toBeNull();
});

test("an evaluation that must not go on ends while hashes are computed", async () => {
  const files = new Files();
  const { derivation } = await files.add("above", needing((await files.add("below")).path));
  const aborted = new EvaluationError("aborted", "the evaluation was aborted");
  const check = () => {
    throw aborted;
  };
  await expect(new RealisationHashes({ files, derivationsMax: 10, check }).of(derivation)).rejects.toBe(aborted);
});
