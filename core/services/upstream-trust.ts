import { equalBytes } from "../lib/bytes.ts";
import { parseHash } from "../nix/hash.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { fingerprint, type PublicKey, verify } from "../nix/signature.ts";
import { makeFixedOutputPath, makeSourcePath, storePathName } from "../nix/store-path.ts";

/** Whether one of the keys has signed it. */
export async function isSigned(info: NarInfo, keys: readonly PublicKey[]): Promise<boolean> {
  const text = fingerprint(info);
  for (const key of keys) {
    for (const signature of info.signatures) if (await verify(key, text, signature)) return true;
  }
  return false;
}

/**
 * Whether its path follows from its content. Fixed outputs only: whoever imports one compares its bytes with the hash
 * again. Other content addresses count only with a signature.
 */
export async function isContentAddressed({ ca, storePath, narHash, references }: NarInfo): Promise<boolean> {
  const match = /^fixed:(r:)?(.+)$/.exec(ca ?? "");
  const hash = match && parseHash(match[2] as string);
  if (!hash) return false;
  const recursive = match[1] !== undefined;
  const name = storePathName(storePath);
  if (recursive && hash.algorithm === "sha256") {
    const others = references.filter((reference) => reference !== storePath);
    if (others.length !== references.length || !equalBytes(hash.digest, narHash.digest)) return false;
    return (await makeSourcePath(name, hash.digest, references)) === storePath;
  }
  return references.length === 0 && (await makeFixedOutputPath(name, { recursive, hash })) === storePath;
}
