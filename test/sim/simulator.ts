import type { Clock } from "#core/lib/clock.ts";

/** Where simulated time begins. */
const EPOCH_MS: number = Date.UTC(2026, 0, 1);
/** What one instant may cause. More is a loop that never lets time pass. */
const STEPS_A_INSTANT_MAX = 20_000;

interface Event {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/**
 * Simulated time. One event runs at a time, and the next one only after everything that it set going has come to rest:
 * promises, and statements under way in the database. So the order of everything follows from the seed.
 */
export class Simulator {
  readonly trace: string[] = [];
  #events: Event[] = [];
  #order = 0;
  #nowMs = 0;
  /** What runs outside of simulated time: statements in the database. */
  #busy = 0;
  #wake: (() => void) | null = null;
  #failure: { readonly error: unknown } | null = null;

  /** Milliseconds since the simulation began. */
  get elapsedMs(): number {
    return this.#nowMs;
  }

  get nowMs(): number {
    return EPOCH_MS + this.#nowMs;
  }

  note(text: string): void {
    this.trace.push(`${(this.#nowMs / 1000).toFixed(3).padStart(9)} ${text}`);
  }

  schedule(delayMs: number, run: () => void): () => void {
    const event: Event = { at: this.#nowMs + Math.max(0, delayMs), order: this.#order++, run };
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#events[middle] as Event;
      // The next one stands last.
      if (other.at > event.at || (other.at === event.at && other.order > event.order)) low = middle + 1;
      else high = middle;
    }
    this.#events.splice(low, 0, event);
    return () => {
      const index = this.#events.indexOf(event);
      if (index >= 0) this.#events.splice(index, 1);
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.schedule(ms, resolve));
  }

  /** Work that takes real time and no simulated time. */
  async outside<T>(work: () => Promise<T>): Promise<T> {
    this.#busy++;
    try {
      return await work();
    } finally {
      this.#busy--;
      if (this.#busy === 0) this.#wake?.();
    }
  }

  /** Ends the run: `run` throws this. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  /** Runs events until `done` answers true, which is asked after each one; `afterEach` runs before that. */
  async run(afterEach: () => Promise<void>, done: () => boolean): Promise<void> {
    let instant = 0;
    for (;;) {
      await this.settle();
      if (this.#failure) throw this.#failure.error;
      await afterEach();
      if (done()) return;
      const event = this.#events.pop();
      if (!event) throw new Error("nothing is left that could happen");
      instant = event.at === this.#nowMs ? instant + 1 : 0;
      if (instant > STEPS_A_INSTANT_MAX) throw new Error("time does not pass any more");
      this.#nowMs = event.at;
      event.run();
    }
  }

  /** Resolves when nothing happens any more unless time passes. */
  async settle(): Promise<void> {
    for (;;) {
      // Runs after every promise that is settled has been looked at.
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (this.#busy === 0) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }
}

/** A process that may die at any step: what it waits for then never comes. */
export class SimulatedProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #simulator: Simulator;
  readonly #onDeath: (() => void)[] = [];
  #alive = true;

  constructor(simulator: Simulator, name: string, clockErrorMs = 0) {
    this.name = name;
    this.#simulator = simulator;
    this.clock = {
      now: () => simulator.nowMs + clockErrorMs,
      monotonic: () => simulator.elapsedMs,
      schedule: (ms, action) => simulator.schedule(ms, () => this.#alive && action()),
    };
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Never resolves once the process is dead. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.clock.schedule(ms, resolve));
  }

  note(text: string): void {
    this.#simulator.note(`${this.name}: ${text}`);
  }

  onDeath(action: () => void): void {
    this.#onDeath.push(action);
  }

  die(how: string): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.note(how);
    for (const action of this.#onDeath.splice(0)) action();
  }
}
