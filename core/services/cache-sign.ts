import type { SigningCache } from "../db/cache-paths.ts";
import { equalBytes } from "../lib/bytes.ts";
import type { SecretKey } from "../nix/signature.ts";
import { openCacheKey } from "./cache-key.ts";
import type { SecretBox } from "./secret-box.ts";

/** The key that a cache signs with. */
export type SecretKeyOf = (cache: SigningCache) => Promise<SecretKey>;

/** An opened key is some hundred bytes; opening one costs a decryption and an import. */
const KEYS_MAX = 256;

/** Opens each cache's key once and keeps the ones used last. A key that was changed is opened anew. */
export function createSecretKeys(secrets: SecretBox): SecretKeyOf {
  const opened = new Map<string, { readonly sealed: Uint8Array; readonly key: Promise<SecretKey> }>();
  const open = (cache: SigningCache) => ({ sealed: cache.secret_key, key: openCacheKey({ secrets }, cache) });
  return (cache) => {
    const known = opened.get(cache.id);
    opened.delete(cache.id);
    const current = known && equalBytes(known.sealed, cache.secret_key) ? known : open(cache);
    opened.set(cache.id, current);
    for (const id of opened.keys()) {
      if (opened.size <= KEYS_MAX) break;
      opened.delete(id);
    }
    current.key.catch(() => opened.delete(cache.id));
    return current.key;
  };
}
