import type { SealedKey } from "../db/cache-keys.ts";
import { equalBytes } from "../lib/bytes.ts";
import { fingerprint, type SecretKey, type SignedFacts, sign } from "../nix/signature.ts";
import { openCacheKey } from "./cache-key.ts";
import type { SecretBox } from "./secret-box.ts";

/** Opens a key of a cache (`KeyRing`). */
export type SecretKeyOf = (key: SealedKey) => Promise<SecretKey>;

/** An opened key is some hundred bytes; opening one costs a decryption and an import. */
const KEYS_MAX = 256;

/** Opens each key once and keeps the ones used last. A key that was changed is opened anew. */
export function createSecretKeys(secrets: SecretBox): SecretKeyOf {
  const opened = new Map<string, { readonly sealed: Uint8Array; readonly key: Promise<SecretKey> }>();
  const open = (key: SealedKey) => ({ sealed: key.secret_key, key: openCacheKey({ secrets }, key) });
  return ({ id, secret_key }) => {
    const known = opened.get(id);
    opened.delete(id);
    const current = known && equalBytes(known.sealed, secret_key) ? known : open({ id, secret_key });
    opened.set(id, current);
    for (const oldest of opened.keys()) {
      if (opened.size <= KEYS_MAX) break;
      opened.delete(oldest);
    }
    current.key.catch(() => opened.delete(id));
    return current.key;
  };
}

/** One signature a key. */
export async function signWith(keys: readonly SecretKey[], facts: SignedFacts): Promise<string[]> {
  const text = fingerprint(facts);
  return await Promise.all(keys.map((key) => sign(key, text)));
}

/** Whether a signature (`name:base64`) is given under the name. */
export function isNamed(signature: string, name: string): boolean {
  return signature.startsWith(`${name}:`);
}

/** The signatures that are given under none of the names. */
export function withoutNames(signatures: readonly string[], names: readonly string[]): string[] {
  return signatures.filter((signature) => !names.some((name) => isNamed(signature, name)));
}
