/** Failures in a row after which nobody is let through. */
const FAILURES_MAX = 5;
/** After this long one is let through to see whether it works again. */
const OPEN_MS = 30_000;

/**
 * Keeps requests from something that does not answer.
 *
 *     closed --5 failures in a row, or a hopeless one--> open --30 s--> half open: one may try
 *       ^                                                 ^                |
 *       +---------------------- success ------------------|----------------+-- failure --> open
 *
 * Every `enter` that was true is followed by one of the other three.
 */
export class CircuitBreaker {
  readonly #now: () => number;
  #failures = 0;
  /** When the next one may try; null while closed. */
  #opensAt: number | null = null;
  #trying = false;

  /** `now` in milliseconds on a clock that never jumps. */
  constructor(now: () => number) {
    this.#now = now;
  }

  get closed(): boolean {
    return this.#opensAt === null;
  }

  /** What `enter` would answer. */
  get mayEnter(): boolean {
    return this.#opensAt === null || (!this.#trying && this.#now() >= this.#opensAt);
  }

  enter(): boolean {
    if (!this.mayEnter) return false;
    this.#trying = this.#opensAt !== null;
    return true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#opensAt = null;
    this.#trying = false;
  }

  /** True when this failure is the one that opened it. A hopeless one needs no others before it. */
  failed({ hopeless }: { readonly hopeless: boolean }): boolean {
    this.#failures++;
    // One that began before it opened tells nothing new.
    if (this.#opensAt !== null && !this.#trying) return false;
    if (!hopeless && !this.#trying && this.#failures < FAILURES_MAX) return false;
    const opened = this.#opensAt === null;
    this.#opensAt = this.#now() + OPEN_MS;
    this.#trying = false;
    return opened;
  }

  /** It was given up, and says neither. */
  abandoned(): void {
    this.#trying = false;
  }
}
