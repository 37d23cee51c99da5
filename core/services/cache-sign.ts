import type { SigningCache } from "../db/cache-paths.ts";
import { assert } from "../lib/assert.ts";
import { equalBytes, fromUtf8 } from "../lib/bytes.ts";
import { parseSecretKey, type SecretKey } from "../nix/signature.ts";
import type { SecretBox } from "./secret-box.ts";

/** The key that a cache signs with. */
export type SecretKeyOf = (cache: SigningCache) => Promise<SecretKey>;

/** An opened key is some hundred bytes; opening one costs a decryption and an import. */
const KEYS_MAX = 256;

/** Opens each cache's key once and keeps the ones used last. A key that was changed is opened anew. */
export function createSecretKeys(secrets: SecretBox): SecretKeyOf {
  const opened = new Map<string, { readonly sealed: Uint8Array; readonly key: Promise<SecretKey> }>();
  return (cache) => {
    const known = opened.get(cache.id);
    opened.delete(cache.id);
    const current = known && equalBytes(known.sealed, cache.secret_key) ? known : openKey(secrets, cache);
    opened.set(cache.id, current);
    for (const id of opened.keys()) {
      if (opened.size <= KEYS_MAX) break;
      opened.delete(id);
    }
    current.key.catch(() => opened.delete(cache.id));
    return current.key;
  };
}

function openKey(secrets: SecretBox, cache: SigningCache): { sealed: Uint8Array; key: Promise<SecretKey> } {
  const place = { table: "cache", column: "secret_key", id: cache.id };
  const key = secrets.open(place, cache.secret_key).then((bytes) => {
    const parsed = parseSecretKey(fromUtf8(bytes));
    assert(parsed, `the secret key of cache ${cache.id} is of the form name:base64`);
    return parsed;
  });
  return { sealed: cache.secret_key, key };
}
