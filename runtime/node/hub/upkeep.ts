import { SECOND } from "#core/lib/clock.ts";
import { tendSchedule } from "#core/services/transitions/upkeep.ts";
import type { HubDeps } from "./deps.ts";

const INTERVAL_MS: number = 5 * SECOND;

/** What the scheduler sees to every few seconds, beside giving out builds: places do not wait for it. */
export class Upkeep {
  readonly #deps: HubDeps;
  #nextAtMs = 0;
  #running: Promise<void> | null = null;

  constructor(deps: HubDeps) {
    this.#deps = deps;
  }

  /** Whoever calls it more often does no harm. */
  look(): void {
    const { clock, log } = this.#deps;
    const nowMs = clock.monotonic();
    if (this.#running || nowMs < this.#nextAtMs) return;
    this.#nextAtMs = nowMs + INTERVAL_MS;
    this.#running = tendSchedule(this.#deps)
      .catch((error: unknown) => log.error("the schedule was not seen to; it is tried again", { error }))
      .finally(() => {
        this.#running = null;
      });
  }

  /** Resolves when what is under way has ended. */
  async close(): Promise<void> {
    await this.#running;
  }
}
