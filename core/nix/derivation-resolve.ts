import { type Bytes, utf8 } from "../lib/bytes.ts";
import { encodeBase32 } from "./base32.ts";
import { type ByteString, byteStringOfText } from "./byte-string.ts";
import { DERIVATION_BYTES_MAX, type Derivation, printDerivation } from "./derivation.ts";
import { inputAddressedPaths } from "./derivation-hash.ts";
import { type DerivationOutput, DerivationParseError } from "./derivation-shape.ts";
import { sha256 } from "./hash.ts";
import { derivationPath, outputName, type StorePath, storePathHash, storePathName } from "./store-path.ts";

/** Where the needed outputs of input derivations are: by derivation, by output. */
export type OutputPlaces = ReadonlyMap<StorePath, ReadonlyMap<string, StorePath>>;

/** A derivation that needs nothing but paths, as Nix stores and builds it. */
export interface ResolvedDerivation {
  readonly drvPath: StorePath;
  readonly aterm: Bytes;
  /** Without input derivations; each output that was deferred has its path. */
  readonly derivation: Derivation;
}

/**
 * Puts the outputs that were made in the place of the derivations that make them: in the inputs, and wherever their
 * placeholders stand in builder, arguments and environment. What is deferred becomes input-addressed by that. The
 * result is, to the byte, what Nix resolves the derivation to. Throws `DerivationParseError` when an output is not
 * given or the result is too large, and `StorePathNameError` when a path of an output would have too long a name.
 */
export async function resolveDerivation(
  drvPath: StorePath,
  derivation: Derivation,
  places: OutputPlaces,
): Promise<ResolvedDerivation> {
  const name = storePathName(drvPath).replace(/\.drv$/, "");
  const inputSources = new Set(derivation.inputSources);
  const rewrites = new Map<ByteString, ByteString>();
  for (const [input, outputs] of derivation.inputDerivations) {
    for (const output of outputs) {
      const place = places.get(input)?.get(output);
      if (place === undefined) {
        throw new DerivationParseError(`where ${input}!${output} is was not recorded`, { offset: null });
      }
      inputSources.add(place);
      rewrites.set(await outputPlaceholder(input, output), place);
    }
  }
  const rewritten = rewrite(derivation, rewrites);
  const resolved = await withPaths(
    { ...rewritten, inputDerivations: new Map(), inputSources: [...inputSources].sort() },
    name,
  );
  const aterm = printDerivation(resolved);
  if (aterm.length > DERIVATION_BYTES_MAX) {
    throw new DerivationParseError(`with its inputs it has more than ${DERIVATION_BYTES_MAX} bytes`, { offset: null });
  }
  return { drvPath: await derivationPath(name, aterm, resolved.inputSources), aterm, derivation: resolved };
}

/** What stands for another derivation's output, in texts, while nobody knows its path. */
export async function outputPlaceholder(drvPath: StorePath, output: string): Promise<ByteString> {
  const name = storePathName(drvPath).replace(/\.drv$/, "");
  const text = `nix-upstream-output:${storePathHash(drvPath)}:${outputName(name, output)}`;
  return `/${encodeBase32(await sha256(utf8(text)))}`;
}

/** A slash and a SHA-256 in base 32. */
const PLACEHOLDER = /\/[0-9a-df-np-sv-z]{52}/g;

function rewrite(derivation: Derivation, rewrites: ReadonlyMap<ByteString, ByteString>): Derivation {
  const rewriteText = (text: ByteString) => text.replace(PLACEHOLDER, (found) => rewrites.get(found) ?? found);
  return {
    ...derivation,
    builder: rewriteText(derivation.builder),
    args: derivation.args.map(rewriteText),
    env: new Map(Array.from(derivation.env, ([name, value]) => [rewriteText(name), rewriteText(value)])),
  };
}

async function withPaths(derivation: Derivation, name: string): Promise<Derivation> {
  if (![...derivation.outputs.values()].some(isDeferred)) return derivation;
  const outputs = new Map(derivation.outputs);
  const env = new Map(derivation.env);
  for (const [output, path] of await inputAddressedPaths(derivation, name)) {
    if (!isDeferred(derivation.outputs.get(output) as DerivationOutput)) continue;
    outputs.set(output, { path, hashAlgorithm: "", hash: "" });
    env.set(byteStringOfText(output), path);
  }
  return { ...derivation, outputs, env };
}

function isDeferred({ path, hashAlgorithm, hash }: DerivationOutput): boolean {
  return path === "" && hashAlgorithm === "" && hash === "";
}
