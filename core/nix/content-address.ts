import { equalBytes } from "../lib/bytes.ts";
import { type Hash, parseHash } from "./hash.ts";
import { makeFixedOutputPath, makeHashedPath, type StorePath, storePathName } from "./store-path.ts";

/** What a path's `CA` states: the hash of its NAR (`recursive`; its own path left out) or of its one file. */
export interface ContentAddress {
  readonly recursive: boolean;
  readonly hash: Hash;
}

/** Reads `fixed:[r:]<algorithm>:<digest>`. Null for anything else: `text:` names what nobody builds. */
export function parseContentAddress(text: string): ContentAddress | null {
  const match = /^fixed:(r:)?(.+)$/.exec(text);
  const hash = match && parseHash(match[2] as string);
  return hash && { recursive: match[1] !== undefined, hash };
}

export interface AddressedPath {
  readonly storePath: StorePath;
  readonly narHash: Hash;
  /** With the path itself where it refers to itself. */
  readonly references: readonly StorePath[];
  readonly ca: string | null;
}

/**
 * Why the path does not follow from its content address and its references, or null. Where the address is the hash of
 * the NAR that is compared too; of files, other algorithms and paths that refer to themselves only whoever imports the
 * path compares the bytes.
 */
export async function contentAddressFault({
  storePath,
  narHash,
  references,
  ca,
}: AddressedPath): Promise<string | null> {
  const address = ca === null ? null : parseContentAddress(ca);
  if (!address) return `${storePath} is not addressed by its content`;
  const { recursive, hash } = address;
  const name = storePathName(storePath);
  const wrong = `${storePath} does not follow from its content address`;
  if (!recursive || hash.algorithm !== "sha256") {
    if (references.length > 0) return `${storePath} refers to other paths, which ${ca} does not allow`;
    return (await makeFixedOutputPath(name, address)) === storePath ? null : wrong;
  }
  const others = references.filter((reference) => reference !== storePath);
  const own = others.length < references.length;
  const type = ["source", ...[...new Set(others)].sort(), ...(own ? ["self"] : [])].join(":");
  if ((await makeHashedPath(type, hash.digest, name)) !== storePath) return wrong;
  return own || equalBytes(hash.digest, narHash.digest) ? null : `${storePath} holds other bytes than ${ca} says`;
}

/** The method and algorithm of a content address, as a floating output states them: `r:sha256`, `sha256`. */
export function contentAddressKind({ recursive, hash }: ContentAddress): string {
  return `${recursive ? "r:" : ""}${hash.algorithm}`;
}
