import { type Clock, HOUR, MINUTE } from "#core/lib/clock.ts";

const MIB = 1024 * 1024;

export interface LogLimits {
  /** What a build may write in a burst; it is refilled over a minute. */
  readonly bytesPerMinute: number;
  /** What it may write over a longer time; refilled over an hour. */
  readonly bytesPerHour: number;
}

/** The loudest builds of nixpkgs (chromium, LLVM with its tests) write some 20 MiB in hours. */
export const LOG_LIMITS: LogLimits = { bytesPerMinute: 8 * MIB, bytesPerHour: 64 * MIB };

/** Says how much of a log may be kept. What it refuses once it refuses from then on: a log with holes misleads. */
export class LogLimiter {
  readonly #buckets: readonly TokenBucket[];
  readonly #clock: Clock;
  #tripped = false;

  constructor(clock: Clock, { bytesPerMinute, bytesPerHour }: LogLimits = LOG_LIMITS) {
    const now = clock.monotonic();
    this.#clock = clock;
    this.#buckets = [new TokenBucket(bytesPerMinute, MINUTE, now), new TokenBucket(bytesPerHour, HOUR, now)];
  }

  /** `first-refusal` once, `refused` ever after. */
  take(bytes: number): "allowed" | "first-refusal" | "refused" {
    if (this.#tripped) return "refused";
    const now = this.#clock.monotonic();
    if (this.#buckets.every((bucket) => bucket.level(now) >= bytes)) {
      for (const bucket of this.#buckets) bucket.take(bytes);
      return "allowed";
    }
    this.#tripped = true;
    return "first-refusal";
  }
}

class TokenBucket {
  readonly #capacity: number;
  readonly #refillMs: number;
  #tokens: number;
  #filledAt: number;

  constructor(capacity: number, refillMs: number, now: number) {
    this.#capacity = capacity;
    this.#refillMs = refillMs;
    this.#tokens = capacity;
    this.#filledAt = now;
  }

  level(now: number): number {
    const refilled = ((now - this.#filledAt) / this.#refillMs) * this.#capacity;
    this.#tokens = Math.min(this.#capacity, this.#tokens + refilled);
    this.#filledAt = now;
    return this.#tokens;
  }

  take(count: number): void {
    this.#tokens -= count;
  }
}
