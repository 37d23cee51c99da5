import { setImmediate } from "node:timers/promises";
import type { Clock } from "#core/lib/clock.ts";

interface Timer {
  readonly at: number;
  readonly action: () => void;
}

/** Turns of the event loop that what a timer has started gets before the next timer. */
const TURNS = 20;

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  #ms = 0;
  #timers: Timer[] = [];

  now(): number {
    return this.#ms;
  }

  monotonic(): number {
    return this.#ms;
  }

  schedule(ms: number, action: () => void): () => void {
    const timer = { at: this.#ms + ms, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Timers that have neither run nor been cancelled. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Runs what is due within `ms`, in order, and lets it do its work. */
  async advance(ms: number): Promise<void> {
    const end = this.#ms + ms;
    await settle();
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#ms = Math.max(this.#ms, due.at);
      due.action();
      await settle();
    }
    this.#ms = end;
  }
}

/** Lets everything that needs no clock happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) await setImmediate();
}
