import { assert } from "#core/lib/assert.ts";
import type { Clock } from "#core/lib/clock.ts";

/** A limited number of places. Who finds none waits in the order of arrival, until a limit, an abort or the end. */
export class Places {
  readonly #limit: number;
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiter>();
  readonly #whenAllFree: (() => void)[] = [];
  #free: number;
  #closedWith: Error | null = null;

  constructor(limit: number, clock: Clock) {
    assert(limit > 0, "there must be at least one place");
    this.#limit = limit;
    this.#clock = clock;
    this.#free = limit;
  }

  get free(): number {
    return this.#free;
  }

  get taken(): number {
    return this.#limit - this.#free;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Followed by one `leave`. Rejects with `timeout()`, the signal's reason or what `close` was given. */
  async take(waitMsMax: number, timeout: () => Error, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#closedWith) throw this.#closedWith;
    if (this.#free > 0) this.#free--;
    else await this.#wait(waitMsMax, timeout, signal);
  }

  /** The place goes to who waits longest. */
  leave(): void {
    const [next] = this.#waiting;
    if (next) next.settle();
    else {
      this.#free++;
      if (this.#free === this.#limit) for (const notify of this.#whenAllFree.splice(0)) notify();
    }
  }

  /** Refuses who waits and who comes later. Resolves when every place has been left. */
  async close(error: Error): Promise<void> {
    this.#closedWith = error;
    for (const waiter of [...this.#waiting]) waiter.settle(error);
    if (this.#free < this.#limit) await new Promise<void>((resolve) => this.#whenAllFree.push(resolve));
  }

  #wait(waitMsMax: number, timeout: () => Error, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        // Leaves the line at once: a place must not go to who has given up.
        settle: (...errors) => {
          if (!this.#waiting.delete(waiter)) return;
          cancel();
          signal?.removeEventListener("abort", abort);
          if (errors.length === 0) resolve();
          else reject(errors[0]);
        },
      };
      const abort = () => waiter.settle(signal?.reason);
      const cancel = this.#clock.schedule(waitMsMax, () => waiter.settle(timeout()));
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.add(waiter);
    });
  }
}

interface Waiter {
  /** Without an error: the place is given. */
  settle(...errors: [] | [unknown]): void;
}
