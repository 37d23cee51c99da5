import type { Bytes } from "./bytes.ts";

/** The type has no name of its own where there is no DOM. */
export type HmacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

const ALGORITHM = { name: "HMAC", hash: "SHA-256" };

const keys = new WeakMap<Bytes, Promise<HmacKey>>();

/** The key for HMAC with SHA-256 of a secret that lives as long as the process: it is imported once. */
export function hmacKey(secret: Bytes): Promise<HmacKey> {
  let key = keys.get(secret);
  if (!key) {
    key = crypto.subtle.importKey("raw", secret, ALGORITHM, false, ["sign", "verify"]);
    keys.set(secret, key);
    // What failed once is tried again.
    key.catch(() => keys.delete(secret));
  }
  return key;
}
