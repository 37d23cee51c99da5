import { SECOND } from "#core/lib/clock.ts";
import { tendSchedule } from "#core/services/transitions/upkeep.ts";
import type { HubDeps } from "./deps.ts";

const INTERVAL_MS: number = 5 * SECOND;

/** What the scheduler sees to every few seconds. Whoever calls `look` more often does no harm. */
export class Upkeep {
  readonly #deps: HubDeps;
  #nextAtMs = 0;

  constructor(deps: HubDeps) {
    this.#deps = deps;
  }

  async look(): Promise<void> {
    const nowMs = this.#deps.clock.monotonic();
    if (nowMs < this.#nextAtMs) return;
    this.#nextAtMs = nowMs + INTERVAL_MS;
    await tendSchedule(this.#deps);
  }
}
