import { reconcileWaiting } from "#core/services/transitions/waiting.ts";
import type { HubDeps } from "./deps.ts";

/**
 * Reasons are looked at after every pass, but not more than a twentieth of the time; and at least this often, since one
 * look that met a slow database would be followed by none for minutes.
 */
const PAUSE_FACTOR = 20;
const PAUSE_MS_MIN = 100;
const PAUSE_MS_MAX = 15_000;

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
    const pauseMs = Math.max(PAUSE_FACTOR * (nowMs - startedMs), PAUSE_MS_MIN);
    this.#nextAtMs = nowMs + Math.min(pauseMs, PAUSE_MS_MAX);
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
