import { type Clock, SECOND, sleep } from "./clock.ts";

/** Slows a reader down. Infinity is no limit. */
export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** When all that was taken so far is paid for. */
  #paidMs: number;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#paidMs = clock.monotonic();
  }

  /** Resolves when so many bytes more are due, or when the signal is aborted. What was not used is not saved up. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = this.#clock.monotonic();
    this.#paidMs = Math.max(this.#paidMs, now) + (bytes / this.#bytesPerSecond) * SECOND;
    const waitMs = this.#paidMs - now;
    if (waitMs > 0) await sleep(this.#clock, waitMs, signal);
  }
}
