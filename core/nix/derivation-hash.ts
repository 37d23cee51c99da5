import { type Bytes, fromHex, toHex, utf8 } from "../lib/bytes.ts";
import { byteStringOfText } from "./byte-string.ts";
import { type Derivation, printDerivation } from "./derivation.ts";
import { sha256 } from "./hash.ts";
import { makeOutputPath, type StorePath } from "./store-path.ts";

/**
 * What Nix calls a derivation's "hash modulo": the same for derivations that differ only in how their fixed outputs are
 * fetched. 64 hexadecimal digits; one for all outputs, or one for each output of a fixed-output derivation.
 */
export type DerivationHash = string | ReadonlyMap<string, string>;

/** An input derivation's hash was not given, or it lacks the output that is needed. */
export class UnknownInputHashError extends Error {
  override readonly name = "UnknownInputHashError";
}

/** The hash by which other derivations refer to this one. Throws `UnknownInputHashError`. */
export async function inputHashOf(
  derivation: Derivation,
  inputs: ReadonlyMap<StorePath, DerivationHash>,
): Promise<DerivationHash> {
  return (await fixedOutputHashes(derivation)) ?? (await hashModulo(derivation, inputs));
}

/**
 * The hash in a realisation's id (`sha256:<hash>!<output>`): as above, with the derivation's own output paths left out.
 * Not for fixed outputs, whose paths need no realisation. Throws `UnknownInputHashError`.
 */
export async function realisationHashOf(
  derivation: Derivation,
  inputs: ReadonlyMap<StorePath, DerivationHash> = new Map(),
): Promise<string> {
  return await hashModulo(withoutOutputPaths(derivation), inputs);
}

/**
 * Where the outputs of an input-addressed derivation belong that has no input derivations (any more). Nix computes the
 * same paths. `name` is the derivation's, without `.drv`.
 */
export async function inputAddressedPaths(derivation: Derivation, name: string): Promise<Map<string, StorePath>> {
  const digest = fromHex(await realisationHashOf(derivation)) as Bytes;
  const paths = new Map<string, StorePath>();
  for (const output of derivation.outputs.keys()) paths.set(output, await makeOutputPath(output, digest, name));
  return paths;
}

function withoutOutputPaths(derivation: Derivation): Derivation {
  const { outputs, env } = derivation;
  const names = new Set(Array.from(outputs.keys(), byteStringOfText));
  return {
    ...derivation,
    outputs: new Map(Array.from(outputs, ([name, output]) => [name, { ...output, path: "" }])),
    env: new Map(Array.from(env, ([name, value]) => [name, names.has(name) ? "" : value])),
  };
}

async function fixedOutputHashes({ outputs }: Derivation): Promise<ReadonlyMap<string, string> | null> {
  const hashes = new Map<string, string>();
  for (const [name, { path, hashAlgorithm, hash }] of outputs) {
    if (hash === "" || hash === "impure") return null;
    hashes.set(name, toHex(await sha256(utf8(`fixed:out:${hashAlgorithm}:${hash}:${path}`))));
  }
  return hashes;
}

async function hashModulo(derivation: Derivation, inputs: ReadonlyMap<StorePath, DerivationHash>): Promise<string> {
  const byHash = new Map<string, Set<string>>();
  for (const [path, outputs] of derivation.inputDerivations) {
    for (const output of outputs) {
      const known = inputs.get(path);
      const hash = typeof known === "string" ? known : known?.get(output);
      if (hash === undefined) throw new UnknownInputHashError(`the hash of ${path}!${output} is not known`);
      byHash.set(hash, (byHash.get(hash) ?? new Set()).add(output));
    }
  }
  // Printed in place of the paths, in the order of the hashes.
  const inputDerivations = new Map(Array.from(byHash, ([hash, names]) => [hash as StorePath, [...names]]));
  return toHex(await sha256(printDerivation({ ...derivation, inputDerivations })));
}
