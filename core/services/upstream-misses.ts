import { type Clock, HOUR } from "../lib/clock.ts";
import { RecentMap } from "../lib/recent-map.ts";
import type { Notifier } from "../ports/notifier.ts";

/** How long it counts that no upstream has a path. As long as Nix itself remembers it. */
const MISSED_MS = HOUR;
/** About 20 MB. Anybody may ask for anything, so these are in memory alone. */
const MISSES_MAX = 100_000;

/** What no upstream of a cache has, by `cache id/hash`. */
export class RememberedMisses {
  readonly #clock: Clock;
  /** Until when each counts. */
  readonly #until = new RecentMap<number>({ entriesMax: MISSES_MAX, bytesMax: MISSES_MAX }, () => 1);
  /** Counts changes of caches and upstreams: what was asked before one is not remembered after it. */
  #changes = 0;

  constructor({ clock, notifier }: { readonly clock: Clock; readonly notifier: Notifier }) {
    this.#clock = clock;
    notifier.subscribe("path", (subject) => {
      if (!subject.endsWith("/")) return void this.#until.delete(subject);
      this.#changes++;
      this.#forgetAll(subject);
    });
    notifier.subscribe("missed", () => {
      this.#changes++;
      this.#forgetAll("");
    });
  }

  has(key: string): boolean {
    const until = this.#until.get(key);
    if (until === undefined) return false;
    if (until > this.#clock.monotonic()) return true;
    this.#until.delete(key);
    return false;
  }

  /** To be called before upstreams are asked; what it returns, when none has it. */
  begin(key: string): () => void {
    const changes = this.#changes;
    return () => {
      if (changes !== this.#changes) return;
      this.#until.set(key, this.#clock.monotonic() + MISSED_MS);
    };
  }

  #forgetAll(prefix: string): void {
    for (const key of this.#until.keys()) if (key.startsWith(prefix)) this.#until.delete(key);
  }
}
