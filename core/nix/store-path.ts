import { type Bytes, concatBytes, toHex, utf8 } from "../lib/bytes.ts";
import { encodeBase32 } from "./base32.ts";
import { type Hash, sha256 } from "./hash.ts";

/** The only store directory that is served and built for: a path of another store never has the same hash part. */
export const STORE_DIR = "/nix/store";

declare const storePathBrand: unique symbol;

/** A full path `/nix/store/<32 nix32 characters>-<name>` that passed `parseStorePath`: ASCII, bounded in length. */
export type StorePath = string & { readonly [storePathBrand]: true };

/** A name that no store path can have was asked for. */
export class StorePathNameError extends Error {
  override readonly name = "StorePathNameError";
}

const HASH_LENGTH = 32;
const HASH_START = STORE_DIR.length + 1;
const NAME_START = HASH_START + HASH_LENGTH + 1;
/** The base name is a file name: 255 less the hash part and its dash, less `.lock` and `.check` that Nix appends. */
const NAME_LENGTH_MAX = 211;

const HASH = /^[0-9abcdfghijklmnpqrsvwxyz]{32}$/;
// Leading dots are allowed (`.gitignore` is a common source), but not the names that newer Nix refuses for looking like
// a folder's own entries.
const NAME = /^(?!\.\.?(?:-|$))[0-9a-zA-Z+\-._?=]+$/;

/** Null unless the text is exactly the path of a store object: no file below it, no trailing slash, no other store. */
export function parseStorePath(text: string): StorePath | null {
  return text.startsWith(`${STORE_DIR}/`) && isBaseName(text.slice(HASH_START)) ? (text as StorePath) : null;
}

/** Reads `<hash>-<name>`, as narinfo files and NAR URLs name paths. */
export function parseStorePathBaseName(text: string): StorePath | null {
  return isBaseName(text) ? (`${STORE_DIR}/${text}` as StorePath) : null;
}

/** The 32 characters that a narinfo is asked for by. */
export function storePathHash(path: StorePath): string {
  return path.slice(HASH_START, HASH_START + HASH_LENGTH);
}

export function storePathName(path: StorePath): string {
  return path.slice(NAME_START);
}

/** `<hash>-<name>`. */
export function storePathBaseName(path: StorePath): string {
  return path.slice(HASH_START);
}

/** The characters and length of the part after the hash. */
export function isStorePathName(text: string): boolean {
  return text.length <= NAME_LENGTH_MAX && NAME.test(text);
}

/** Where `builtins.toFile` and derivations go: addressed by content and references. Throws `StorePathNameError`. */
export async function makeTextPath(
  name: string,
  content: Uint8Array,
  references: readonly StorePath[],
): Promise<StorePath> {
  return makeHashedPath(withReferences("text", references), await sha256(content), name);
}

/** Where the derivation called `name` (without `.drv`) with these ATerm bytes belongs. Throws `StorePathNameError`. */
export function derivationPath(
  name: string,
  atermBytes: Uint8Array,
  references: readonly StorePath[],
): Promise<StorePath> {
  return makeTextPath(`${name}.drv`, atermBytes, references);
}

/** Where a source tree goes: addressed by the SHA-256 of its NAR. Throws `StorePathNameError`. */
export function makeSourcePath(
  name: string,
  narSha256: Uint8Array,
  references: readonly StorePath[],
): Promise<StorePath> {
  return makeHashedPath(withReferences("source", references), narSha256, name);
}

/** Where a fixed output without references goes. `recursive`: the hash is of its NAR, else of the flat file. */
export async function makeFixedOutputPath(
  name: string,
  { recursive, hash }: { readonly recursive: boolean; readonly hash: Hash },
): Promise<StorePath> {
  if (recursive && hash.algorithm === "sha256") return makeSourcePath(name, hash.digest, []);
  const inner = `fixed:out:${recursive ? "r:" : ""}${hash.algorithm}:${toHex(hash.digest)}:`;
  return makeHashedPath("output:out", await sha256(utf8(inner)), name);
}

/** Where an output of the input-addressed derivation called `name` goes. Throws `StorePathNameError`. */
export function makeOutputPath(output: string, derivationHash: Uint8Array, name: string): Promise<StorePath> {
  return makeHashedPath(`output:${output}`, derivationHash, outputName(name, output));
}

/** What the path of an output of the derivation called `name` is called. */
export function outputName(name: string, output: string): string {
  return output === "out" ? name : `${name}-${output}`;
}

/** The rule that all others end in. `type` says what was hashed. Throws `StorePathNameError`. */
export async function makeHashedPath(type: string, digest: Uint8Array, name: string): Promise<StorePath> {
  if (!isStorePathName(name)) {
    const shown = JSON.stringify(name.slice(0, 300));
    const rule = `1 to ${NAME_LENGTH_MAX} letters, digits or +-._?= are allowed`;
    throw new StorePathNameError(`${shown} cannot name a store path: ${rule}`);
  }
  const fingerprint = await sha256(utf8(`${type}:sha256:${toHex(digest)}:${STORE_DIR}:${name}`));
  return `${STORE_DIR}/${encodeBase32(fold(fingerprint, 20))}-${name}` as StorePath;
}

function withReferences(type: string, references: readonly StorePath[]): string {
  return [type, ...[...new Set(references)].sort()].join(":");
}

function fold(digest: Uint8Array, size: number): Bytes {
  const folded = concatBytes([digest.subarray(0, size)]);
  for (let i = size; i < digest.length; i++) folded[i % size] = (folded[i % size] as number) ^ (digest[i] as number);
  return folded;
}

function isBaseName(text: string): boolean {
  return (
    text[HASH_LENGTH] === "-" && HASH.test(text.slice(0, HASH_LENGTH)) && isStorePathName(text.slice(HASH_LENGTH + 1))
  );
}
