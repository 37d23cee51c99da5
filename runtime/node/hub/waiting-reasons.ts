import { reconcileWaiting } from "#core/services/transitions/waiting.ts";
import type { HubDeps } from "./deps.ts";

/** Reasons are looked at after every pass, but never more than a twentieth of the time. */
const PAUSE_FACTOR = 20;
const PAUSE_MS_MIN = 100;

/** Keeps what evaluations say they wait for, at the pace that the database allows. */
export class WaitingReasons {
  readonly #deps: HubDeps;
  readonly #onDue: () => void;
  #nextAtMs = 0;
  #cancel: (() => void) | null = null;
  #closed = false;

  /** `onDue` is called when it is time for a look that was put off. */
  constructor(deps: HubDeps, onDue: () => void) {
    this.#deps = deps;
    this.#onDue = onDue;
  }

  /** True when an evaluation goes on by it. A look that comes too early is put off, and not lost. */
  async look(): Promise<boolean> {
    const { clock } = this.#deps;
    const startedMs = clock.monotonic();
    if (startedMs < this.#nextAtMs) {
      if (!this.#closed) this.#cancel ??= clock.schedule(this.#nextAtMs - startedMs, () => this.#due());
      return false;
    }
    const resumed = await reconcileWaiting(this.#deps);
    const nowMs = clock.monotonic();
    this.#nextAtMs = nowMs + Math.max(PAUSE_FACTOR * (nowMs - startedMs), PAUSE_MS_MIN);
    return resumed;
  }

  close(): void {
    this.#closed = true;
    this.#cancel?.();
  }

  #due(): void {
    this.#cancel = null;
    this.#onDue();
  }
}
