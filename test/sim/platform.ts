import { createHash, KeyObject, sign } from "node:crypto";
import { systemClock } from "#core/lib/clock.ts";

/** Whatever still asks the system's clock for a timer would not follow from the seed. */
export function withoutSystemTimers(): Disposable {
  const { schedule } = systemClock;
  const refuse = () => {
    throw new Error("simulated code uses the system's clock");
  };
  Object.assign(systemClock, { schedule: refuse });
  return { [Symbol.dispose]: () => void Object.assign(systemClock, { schedule }) };
}

/**
 * Digests and signatures of the platform take a thread and real time; here they are done at once, so that what waits
 * for one does not race with the database. The results are the same.
 */
export function withImmediateCrypto(): Disposable {
  const { subtle } = crypto;
  const own = { digest: subtle.digest, sign: subtle.sign };
  const digest: typeof subtle.digest = async (algorithm, data) => {
    const name = typeof algorithm === "string" ? algorithm : algorithm.name;
    const hash = createHash(name.replace("-", "").toLowerCase());
    hash.update(
      ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data),
    );
    return new Uint8Array(hash.digest()).buffer;
  };
  const signAtOnce: typeof subtle.sign = async (algorithm, key, data) => {
    // The driver of the database proves its password with others.
    if (key.algorithm.name !== "Ed25519") return await own.sign.call(subtle, algorithm, key, data);
    return new Uint8Array(sign(null, data as Uint8Array, KeyObject.from(key))).buffer;
  };
  Object.assign(subtle, { digest, sign: signAtOnce });
  return {
    [Symbol.dispose]: () => {
      delete (subtle as { digest?: unknown }).digest;
      delete (subtle as { sign?: unknown }).sign;
      if (subtle.digest !== own.digest) Object.assign(subtle, own);
    },
  };
}
