import type { Clock } from "#core/lib/clock.ts";

/**
 * How long the number of a group that is gone is not used for another one: a job that is on its way to it arrives
 * before that, or the session ends, which is given up after 45 s of silence.
 */
const REST_MS = 60_000;

interface Numbered {
  readonly key: string;
  /** When the group went away; null while it is there. */
  goneAtMs: number | null;
}

/** Gives groups numbers that stay theirs, so that a job that crosses a change finds the machines it is meant for. */
export class GroupNumbers {
  readonly #clock: Clock;
  readonly #countMax: number;
  readonly #slots: Numbered[] = [];

  constructor(clock: Clock, countMax: number) {
    this.#clock = clock;
    this.#countMax = countMax;
  }

  /** The keys by number; a number without a group has null. Keys that no number is left for are not among them. */
  assign(keys: readonly string[]): (string | null)[] {
    const now = this.#clock.monotonic();
    const wanted = new Set(keys);
    for (const slot of this.#slots) {
      if (wanted.delete(slot.key)) slot.goneAtMs = null;
      else slot.goneAtMs ??= now;
    }
    for (const key of wanted) this.#add(key, now);
    return this.#slots.map(({ key, goneAtMs }) => (goneAtMs === null ? key : null));
  }

  #add(key: string, now: number): void {
    const rested = this.#slots.findIndex(({ goneAtMs }) => goneAtMs !== null && now - goneAtMs >= REST_MS);
    if (rested !== -1) this.#slots[rested] = { key, goneAtMs: null };
    else if (this.#slots.length < this.#countMax) this.#slots.push({ key, goneAtMs: null });
  }
}
