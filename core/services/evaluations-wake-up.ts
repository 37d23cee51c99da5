import { sleep } from "../lib/clock.ts";
import type { Topic } from "../ports/notifier.ts";
import type { ServiceDeps } from "./deps.ts";

export interface WatchedTopic {
  readonly topic: Topic;
  readonly isSubject: (subject: string) => boolean;
}

/** One reader that waits for word about some subjects. Word that comes while it works is kept until it waits again. */
export class WakeUp {
  readonly #clock: ServiceDeps["clock"];
  readonly #unsubscribe: () => void;
  #called = false;
  #call: () => void = () => {};

  constructor({ clock, notifier }: Pick<ServiceDeps, "clock" | "notifier">, ...watched: readonly WatchedTopic[]) {
    this.#clock = clock;
    const subscriptions = watched.map(({ topic, isSubject }) =>
      notifier.subscribe(topic, (called) => {
        if (!isSubject(called)) return;
        this.#called = true;
        this.#call();
      }),
    );
    this.#unsubscribe = () => {
      for (const unsubscribe of subscriptions) unsubscribe();
    };
  }

  /** Whether word came; false after `atMostMs`. Takes at least `atLeastMs`, unless the signal is aborted. */
  async wait({ atLeastMs, atMostMs, signal }: WaitOptions): Promise<boolean> {
    await sleep(this.#clock, atLeastMs, signal);
    if (!this.#called && !signal.aborted && atMostMs > atLeastMs) await this.#word(atMostMs - atLeastMs, signal);
    const called = this.#called;
    this.#called = false;
    return called;
  }

  close(): void {
    this.#unsubscribe();
  }

  #word(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        cancel();
        signal.removeEventListener("abort", finish);
        this.#call = () => {};
        resolve();
      };
      const cancel = this.#clock.schedule(ms, finish);
      signal.addEventListener("abort", finish, { once: true });
      this.#call = finish;
    });
  }
}

interface WaitOptions {
  readonly atLeastMs: number;
  readonly atMostMs: number;
  readonly signal: AbortSignal;
}
