import type { Clock } from "./clock.ts";

export interface BucketShape {
  /** A token comes back each so many milliseconds. */
  readonly refillMs: number;
  /** As many tokens a full bucket holds. */
  readonly burst: number;
}

/** When the bucket will be full again, on the clock that never jumps. Needs no timer, and says all there is to know. */
interface Bucket {
  fullAt: number;
}

/** About 5 MB of addresses and numbers. */
const KEYS_MAX = 50_000;
/** Below it a wait is one of rounding. */
const ROUNDING_MS = 0.001;

/**
 * A token bucket for each key, for a bounded number of keys. Buckets are in two generations, each of half the size:
 * when the young one is full, what nobody has asked for since the last time goes, and is a full bucket when it is asked
 * for again. So whoever holds half of all keys can fill buckets of his own, which are his by then anyway.
 */
export class TokenBuckets {
  readonly #clock: Clock;
  readonly #shape: BucketShape;
  readonly #keysMax: number;
  #young = new Map<string, Bucket>();
  #old = new Map<string, Bucket>();

  constructor(clock: Clock, shape: BucketShape, keysMax: number = KEYS_MAX) {
    this.#clock = clock;
    this.#shape = shape;
    this.#keysMax = keysMax;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /**
   * Takes a token: the milliseconds until there is one, 0 for at once. One that is further away than `patienceMs` is
   * not taken.
   */
  take(key: string, patienceMs: number = 0): number {
    const { refillMs, burst } = this.#shape;
    const now = this.#clock.monotonic();
    const bucket = this.#young.get(key) ?? this.#renew(key, now);
    const fullAt = Math.max(bucket.fullAt, now) + refillMs;
    const exactMs = fullAt - now - burst * refillMs;
    const waitMs = exactMs < ROUNDING_MS ? 0 : exactMs;
    if (waitMs <= patienceMs) bucket.fullAt = fullAt;
    return waitMs;
  }

  #renew(key: string, now: number): Bucket {
    const bucket = this.#old.get(key) ?? { fullAt: now };
    this.#old.delete(key);
    if (this.#young.size >= this.#keysMax / 2) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, bucket);
    return bucket;
  }
}
