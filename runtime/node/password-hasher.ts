import { hash, verify } from "@node-rs/argon2";
import type { PasswordHasher } from "#core/ports/password-hasher.ts";

/** OWASP's smallest recommended parameters for Argon2id: 19 MiB, two passes, one lane. */
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

export const argon2Hasher: PasswordHasher = {
  hash: (secret) => hash(secret, PARAMETERS),
  async verify(stored, secret) {
    if (!stored.startsWith("$argon2")) return false;
    try {
      return await verify(stored, secret);
    } catch {
      // Cut short or of a version that the library does not know.
      return false;
    }
  },
};
