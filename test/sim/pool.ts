import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import type { SeedOrder, SeedResult } from "./process.ts";

/** A run that takes longer hangs: on an idle machine one takes half a second. */
const SEED_MS_MAX = 180_000;

export interface SeedsOptions {
  /** Of a server with the migrated template. */
  readonly server: DatabaseAddress;
  readonly seeds: Iterable<number>;
  /** Of each trace so many lines at its end come back. */
  readonly lines: number;
  /** No further seed begins once one has failed. */
  readonly first?: boolean;
  /** See `Ground`. */
  readonly recalls?: boolean;
  readonly onResult?: (result: SeedResult) => void;
}

/**
 * Runs the seeds in order, on all processors; resolves with their results in the order of the seeds. One that hangs, or
 * takes its process with it, has failed, and the others go on.
 */
export async function runSeeds(options: SeedsOptions): Promise<SeedResult[]> {
  const { server, seeds, lines, first = false, recalls = true, onResult } = options;
  const left = seeds[Symbol.iterator]();
  const results: SeedResult[] = [];
  const work = async (): Promise<void> => {
    let runner = await Runner.start(server);
    try {
      for (;;) {
        if (first && results.some(({ error }) => error)) return;
        const { done, value } = left.next();
        if (done) return;
        if (runner.isOver) runner = await Runner.start(server);
        const result = await runner.run({ seed: value, lines, recalls });
        results.push(result);
        onResult?.(result);
      }
    } finally {
      await runner[Symbol.asyncDispose]();
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results.toSorted((a, b) => a.seed - b.seed);
}

class Runner implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<never>;
  isOver = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = new Promise((_, reject) => {
      child.once("exit", (code, signal) => {
        this.isOver = true;
        reject(new Error(`a process of the simulation ended: ${code ?? signal}`));
      });
    });
    this.#ended.catch(() => {});
  }

  static async start(server: DatabaseAddress): Promise<Runner> {
    const child = fork(new URL("process.ts", import.meta.url), [JSON.stringify(server)], { execArgv: [] });
    const runner = new Runner(child);
    await runner.#next();
    return runner;
  }

  async run(order: SeedOrder): Promise<SeedResult> {
    const answer = this.#next() as Promise<SeedResult>;
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), SEED_MS_MAX);
    this.#child.send(order);
    try {
      return await answer;
    } catch (cause) {
      const { message, stack = message } = new Error(`it did not come to an end: ${String(cause)}`);
      return { seed: order.seed, error: { message, stack }, trace: [], digest: "", simulatedMs: 0 };
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    await this.#ended.catch(() => {});
  }

  #next(): Promise<unknown> {
    return Promise.race([this.#ended, new Promise((resolve) => this.#child.once("message", resolve))]);
  }
}
