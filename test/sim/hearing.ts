import type { Simulator } from "./simulator.ts";

/** When workers could have been heard: the times in which any server ran. */
export class Hearing {
  readonly #simulator: Simulator;
  readonly #running = new Set<number>();
  readonly #times: { readonly fromMs: number; toMs: number }[] = [];

  constructor(simulator: Simulator) {
    this.#simulator = simulator;
  }

  serverCame(number: number): void {
    const now = this.#simulator.elapsedMs;
    if (this.#running.size === 0) this.#times.push({ fromMs: now, toMs: Number.POSITIVE_INFINITY });
    this.#running.add(number);
  }

  serverWent(number: number): void {
    this.#running.delete(number);
    const last = this.#times.at(-1);
    if (this.#running.size === 0 && last) last.toMs = this.#simulator.elapsedMs;
  }

  /** For how many of the last `ms` milliseconds. */
  of(ms: number): number {
    const now = this.#simulator.elapsedMs;
    const parts = this.#times.map(({ fromMs, toMs }) => Math.min(toMs, now) - Math.max(fromMs, now - ms));
    return parts.reduce((sum, part) => sum + Math.max(0, part), 0);
  }
}
