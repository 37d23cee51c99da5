import type { Bytes } from "../lib/bytes.ts";
import { AtermReader, printAtermString } from "./aterm.ts";
import { type ByteString, byteStringBytes } from "./byte-string.ts";
import { type Derivation, type DerivationOutput, DerivationParseError } from "./derivation-shape.ts";
import { isStorePathName, makeTextPath, parseStorePath, type StorePath, storePathName } from "./store-path.ts";

export { type DerivationFacts, derivationFacts } from "./derivation-facts.ts";
export { type Derivation, type DerivationOutput, DerivationParseError } from "./derivation-shape.ts";

/** The largest ones of nixpkgs are some MiB (a list of sources as `__json`). */
export const DERIVATION_BYTES_MAX: number = 64 * 1024 * 1024;
const OUTPUTS_MAX = 1_000;
const INPUTS_MAX = 100_000;
/** Outputs that all input derivations together are needed for. */
const INPUT_OUTPUTS_MAX = 200_000;
const ARGS_MAX = 100_000;
const ENV_MAX = 100_000;

/**
 * Reads a `.drv` file. Only what Nix itself writes is accepted (sorted, without duplicates, one spelling a string), so
 * that `printDerivation` gives back the same bytes. Throws `DerivationParseError`.
 */
export function parseDerivation(bytes: Uint8Array): Derivation {
  if (bytes.length > DERIVATION_BYTES_MAX) {
    throw new DerivationParseError(`larger than ${DERIVATION_BYTES_MAX} bytes`, { offset: null });
  }
  const reader = new AtermReader(bytes);
  if (reader.startsWith("DrvWithVersion(")) {
    throw new DerivationParseError("dynamic derivations are not supported", { offset: 0, isDynamic: true });
  }
  reader.expect("Derive(");
  const outputs = readOutputs(reader);
  reader.expect(",");
  const inputDerivations = readInputDerivations(reader);
  reader.expect(",");
  const inputSources = readSorted(reader, INPUTS_MAX, readStorePath);
  reader.expect(",");
  const system = reader.string();
  reader.expect(",");
  const builder = reader.string();
  reader.expect(",");
  const args: ByteString[] = [];
  reader.list(ARGS_MAX, () => void args.push(reader.string()));
  reader.expect(",");
  const env = readEnv(reader);
  reader.expect(")");
  if (!reader.atEnd) reader.fail("something follows the derivation");
  return { outputs, inputDerivations, inputSources, system, builder, args, env };
}

/** The bytes of the `.drv` file. Maps and lists of paths may be in any order: they are written sorted, as Nix does. */
export function printDerivation(derivation: Derivation): Bytes {
  const outputs = sortedEntries(derivation.outputs).map(
    ([name, { path, hashAlgorithm, hash }]) => `(${[name, path, hashAlgorithm, hash].map(printAtermString).join(",")})`,
  );
  const inputs = sortedEntries(derivation.inputDerivations).map(
    ([path, names]) => `(${printAtermString(path)},${printList([...names].sort())})`,
  );
  const env = sortedEntries(derivation.env).map(
    ([name, value]) => `(${printAtermString(name)},${printAtermString(value)})`,
  );
  const { system, builder, args, inputSources } = derivation;
  const fields = [
    `[${outputs.join(",")}]`,
    `[${inputs.join(",")}]`,
    printList([...inputSources].sort()),
    printAtermString(system),
    printAtermString(builder),
    printList(args),
    `[${env.join(",")}]`,
  ];
  return byteStringBytes(`Derive(${fields.join(",")})`);
}

/** Everything the `.drv` file refers to: its input derivations and input sources, sorted. */
export function derivationReferences(derivation: Derivation): StorePath[] {
  return [...new Set([...derivation.inputDerivations.keys(), ...derivation.inputSources])].sort();
}

/**
 * Whether these bytes are what the path names: a derivation's path is made of its content, so a match proves that
 * nobody changed it. Throws `DerivationParseError`. A caller that parsed the bytes already passes the result.
 */
export async function verifyDerivationPath(
  path: StorePath,
  bytes: Uint8Array,
  derivation: Derivation = parseDerivation(bytes),
): Promise<boolean> {
  const name = storePathName(path);
  return name.endsWith(".drv") && (await makeTextPath(name, bytes, derivationReferences(derivation))) === path;
}

function readOutputs(reader: AtermReader): Map<string, DerivationOutput> {
  const outputs = new Map<string, DerivationOutput>();
  readSorted(reader, OUTPUTS_MAX, () => {
    reader.expect("(");
    const start = reader.offset;
    const name = reader.string();
    if (!isStorePathName(name)) reader.fail("an output's name that no store path can end in", start);
    reader.expect(",");
    const pathStart = reader.offset;
    const path = reader.string();
    if (path !== "" && parseStorePath(path) === null) reader.fail("an output's path is no store path", pathStart);
    reader.expect(",");
    const hashAlgorithm = reader.string();
    reader.expect(",");
    const hash = reader.string();
    reader.expect(")");
    outputs.set(name, { path, hashAlgorithm, hash });
    return name;
  });
  if (outputs.size === 0) reader.fail("it has no outputs");
  return outputs;
}

function readInputDerivations(reader: AtermReader): Map<StorePath, readonly string[]> {
  const inputs = new Map<StorePath, readonly string[]>();
  let outputs = 0;
  readSorted(reader, INPUTS_MAX, () => {
    reader.expect("(");
    const start = reader.offset;
    const path = readStorePath(reader);
    if (!path.endsWith(".drv")) reader.fail("an input derivation whose name does not end in .drv", start);
    reader.expect(",");
    const names = readSorted(reader, OUTPUTS_MAX, () => reader.string());
    outputs += names.length;
    if (outputs > INPUT_OUTPUTS_MAX) reader.fail(`more than ${INPUT_OUTPUTS_MAX} outputs of its inputs are needed`);
    inputs.set(path, names);
    reader.expect(")");
    return path;
  });
  return inputs;
}

function readEnv(reader: AtermReader): Map<ByteString, ByteString> {
  const env = new Map<ByteString, ByteString>();
  readSorted(reader, ENV_MAX, () => {
    reader.expect("(");
    const name = reader.string();
    reader.expect(",");
    env.set(name, reader.string());
    reader.expect(")");
    return name;
  });
  return env;
}

function readStorePath(reader: AtermReader): StorePath {
  const start = reader.offset;
  return parseStorePath(reader.string()) ?? reader.fail("an input that is no store path", start);
}

/** Reads a list whose items, or the keys that `readItem` returns for them, ascend strictly. */
function readSorted<T extends string>(
  reader: AtermReader,
  countMax: number,
  readItem: (reader: AtermReader) => T,
): T[] {
  const keys: T[] = [];
  reader.list(countMax, () => {
    const start = reader.offset;
    const key = readItem(reader);
    const previous = keys.at(-1);
    if (previous !== undefined && previous >= key) reader.fail("a list that is not sorted or repeats an item", start);
    keys.push(key);
  });
  return keys;
}

function sortedEntries<K extends string, V>(map: ReadonlyMap<K, V>): [K, V][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1));
}

function printList(items: readonly string[]): string {
  return `[${items.map(printAtermString).join(",")}]`;
}
