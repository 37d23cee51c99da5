import type { Link } from "./network.ts";
import type { Random } from "./random.ts";
import type { Simulator } from "./simulator.ts";
import type { RunningExecutor } from "./worker.ts";

/** Old messages that may come again. */
const KEPT = 200;
const REPEATED = /^\{"type":"(job_result|assign_job_response|job_update|eval_message)"/;

/**
 * What a worker that is broken, or that somebody has taken over, may send on its own session: what it or another one
 * said long ago, and results of what others run.
 */
export class Forgeries {
  readonly #random: Random;
  readonly #simulator: Simulator;
  readonly #running: ReadonlyMap<string, RunningExecutor>;
  readonly #heard: { readonly workerId: string; readonly text: string }[] = [];

  constructor(random: Random, simulator: Simulator, running: ReadonlyMap<string, RunningExecutor>) {
    this.#random = random;
    this.#simulator = simulator;
    this.#running = running;
  }

  /** To be told of everything that workers send. */
  heard({ workerId }: Link, text: string): void {
    if (!REPEATED.test(text)) return;
    this.#heard.push({ workerId, text });
    if (this.#heard.length > KEPT) this.#heard.shift();
  }

  cause(link: Link): void {
    const text = this.#random.chance(0.5) ? this.#foreignResult(link) : this.#oldMessage();
    if (text === null || link.toServer.closed) return;
    this.#simulator.note(`forged on #${link.number}: ${text.slice(0, 200)}`);
    link.toServer.inject(text);
  }

  #oldMessage(): string | null {
    return this.#heard.length > 0 ? this.#random.pick(this.#heard).text : null;
  }

  /** Of what another worker runs this one says that it is done. */
  #foreignResult(link: Link): string | null {
    const foreign = [...this.#running].filter(([, { workerId }]) => workerId !== link.workerId);
    if (foreign.length === 0) return null;
    const [attempt] = this.#random.pick(foreign);
    const old = this.#heard.filter(({ text }) => text.startsWith('{"type":"job_result"'));
    if (old.length === 0) return null;
    return JSON.stringify({ ...JSON.parse(this.#random.pick(old).text), attempt });
  }
}
