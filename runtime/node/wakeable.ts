import { type Clock, sleep } from "#core/lib/clock.ts";
import type { Notifier, Topic } from "#core/ports/notifier.ts";

/** A loop that waits for word of one topic. Word that comes while it works is kept until it waits again. */
export class Wakeable {
  readonly #clock: Clock;
  readonly #unsubscribe: (() => void)[];
  #called = false;
  #call: () => void = () => {};

  constructor({ clock, notifier }: { readonly clock: Clock; readonly notifier: Notifier }, topic: Topic) {
    this.#clock = clock;
    const called = () => {
      this.#called = true;
      this.#call();
    };
    this.#unsubscribe = [notifier.subscribe(topic, called), notifier.subscribe("missed", called)];
  }

  /** Resolves when word came, after `ms`, or when the signal is aborted. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#called) {
      const word = new AbortController();
      this.#call = () => word.abort();
      await sleep(this.#clock, ms, AbortSignal.any([signal, word.signal]));
    }
    this.#called = false;
    this.#call = () => {};
  }

  [Symbol.dispose](): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }
}
