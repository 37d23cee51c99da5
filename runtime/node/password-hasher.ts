import { availableParallelism } from "node:os";
import { hash, verify } from "@node-rs/argon2";
import { DomainError } from "#core/errors.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { PasswordHasher } from "#core/ports/password-hasher.ts";

/** OWASP's smallest recommended parameters for Argon2id: 19 MiB, two passes, one lane. */
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;
/**
 * Everybody else is served meanwhile: one processor is left to them where there are several, and one of the four
 * threads that Node has for such work and for files.
 */
const AT_ONCE_MAX: number = Math.max(1, Math.min(3, availableParallelism() - 1));
/** Some ten seconds of work. Whoever comes behind would wait for an answer that nobody stays for. */
const WAITING_MAX = 500;

export const argon2Hasher: PasswordHasher = bounded(
  {
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
  },
  { atOnceMax: AT_ONCE_MAX, waitingMax: WAITING_MAX },
);

/** Both throw `service_unavailable` while `waitingMax` wait already. */
export function bounded(
  hasher: PasswordHasher,
  { atOnceMax, waitingMax }: { readonly atOnceMax: number; readonly waitingMax: number },
): PasswordHasher {
  const places = new Semaphore(atOnceMax);
  const run = async <T>(task: () => Promise<T>): Promise<T> => {
    if (places.waiting < waitingMax) return await places.run(task);
    throw new DomainError("service_unavailable", "Too many people sign in just now: try again in a few seconds");
  };
  return {
    hash: (secret) => run(() => hasher.hash(secret)),
    verify: (stored, secret) => run(() => hasher.verify(stored, secret)),
  };
}
