import { isDeepStrictEqual } from "node:util";
import { Semaphore } from "#core/lib/semaphore.ts";
import { type EvaluatorKind, EvaluatorProcess, type EvaluatorSetup } from "./evaluator-process.ts";

export interface EvaluatorPoolOptions {
  /** Evaluators at work at a time, of all evaluations together. As many may wait for the next evaluation. */
  readonly evaluatorsMax: number;
  /** After so many evaluations a process is replaced. 0: never. */
  readonly evaluationsPerProcessMax: number;
  /** How long a process waits for the next evaluation before it is ended. */
  readonly idleMsMax?: number;
  /** A process that has grown beyond this is not kept. */
  readonly idleBytesMax?: number;
  /** Told of each process, so that those that outlive the worker can be found. */
  readonly onStarted?: (pid: number) => Promise<void>;
  readonly onEnded?: (pid: number) => void;
}

const IDLE_MS_MAX = 5 * 60_000;
const PROBE_MS_MAX = 30_000;
const IDLE_BYTES_MAX = 512 * 1024 * 1024;

/**
 * Evaluators that are kept between evaluations. One is only ever given to an evaluation that would have started the
 * very same process: same organization and trust (they have folders of their own), same repository, same settings.
 */
export class EvaluatorPool {
  readonly #options: EvaluatorPoolOptions;
  readonly #places: Semaphore;
  readonly #idle: { readonly process: EvaluatorProcess; readonly timer: NodeJS.Timeout }[] = [];
  readonly #all = new Set<EvaluatorProcess>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #kinds = new Map<string, Promise<EvaluatorKind>>();
  #isClosed = false;

  constructor(options: EvaluatorPoolOptions) {
    this.#options = options;
    this.#places = new Semaphore(options.evaluatorsMax);
  }

  /** Runs the task when there is a place for one more evaluator. */
  async withPlace<T>(task: () => Promise<T>): Promise<T> {
    return await this.#places.run(task);
  }

  /** One that waits, or a new one. Throws `EvaluationError`. */
  async take(setup: EvaluatorSetup, { fresh = false }: { readonly fresh?: boolean } = {}): Promise<EvaluatorProcess> {
    const kind = await this.#kindOf(setup);
    const found = this.#takeIdle(setup, fresh) ?? (await this.#start(setup, kind));
    // The next one starts while this one works.
    if (kind === "single") this.#prepare(setup);
    return found;
  }

  #takeIdle(setup: EvaluatorSetup, fresh: boolean): EvaluatorProcess | null {
    const index = this.#idle.findIndex(
      // It may have been killed while it waited, by the system for its memory.
      ({ process }) =>
        process.isAlive && isDeepStrictEqual(process.setup, setup) && !(fresh && process.evaluations > 0),
    );
    const [found] = index === -1 ? [] : this.#idle.splice(index, 1);
    clearTimeout(found?.timer);
    return found?.process ?? null;
  }

  #prepare(setup: EvaluatorSetup): void {
    if (this.#idle.some(({ process }) => process.isAlive && isDeepStrictEqual(process.setup, setup))) return;
    this.#later(this.#start(setup, "single").then((process) => this.#keep(process)));
  }

  /**
   * The evaluation is over. The process waits for the next one, unless it has served enough or grown too large; that is
   * looked at behind the caller's back.
   */
  giveBack(process: EvaluatorProcess): void {
    this.#later(this.#judge(process));
  }

  /** Resolves when every process that was given back waits or is gone, and those that are prepared wait. */
  async settled(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }

  #later(task: Promise<unknown>): void {
    const settled: Promise<void> = task
      .then(
        () => {},
        // A process that cannot be started is reported to whoever needs one.
        () => {},
      )
      .finally(() => this.#tasks.delete(settled));
    this.#tasks.add(settled);
  }

  async #judge(process: EvaluatorProcess): Promise<void> {
    const { evaluationsPerProcessMax, idleBytesMax = IDLE_BYTES_MAX } = this.#options;
    process.owner = null;
    const isWorn = evaluationsPerProcessMax > 0 && process.evaluations >= evaluationsPerProcessMax;
    if (process.kind === "single" || !process.isAlive || isWorn) return await this.#discard(process);
    // The interpreter forgets what it was told; the collector frees it with the next evaluation.
    const end = await process.run({ lines: [":r", FORGOTTEN], onLine: (line) => line.includes(FORGOTTEN_WORD) });
    if (end !== null || (await process.residentBytes()) > idleBytesMax) return await this.#discard(process);
    this.#keep(process);
  }

  #keep(process: EvaluatorProcess): void {
    if (this.#isClosed) return process.stop("aborted");
    if (this.#idle.length >= this.#options.evaluatorsMax) {
      const oldest = this.#idle.shift();
      clearTimeout(oldest?.timer);
      oldest?.process.stop("aborted");
    }
    const timer = setTimeout(() => this.#drop(process), this.#options.idleMsMax ?? IDLE_MS_MAX);
    timer.unref();
    this.#idle.push({ process, timer });
  }

  async #discard(process: EvaluatorProcess): Promise<void> {
    process.stop("aborted");
    await process.gone();
  }

  /** Ends every process, also those at work. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { timer } of this.#idle.splice(0)) clearTimeout(timer);
    const all = [...this.#all];
    for (const process of all) process.stop("aborted");
    await Promise.all(all.map((process) => process.gone()));
  }

  /** The interpreter of some versions of Nix cannot be made to evaluate purely: 2.8 cannot, 2.26 can. */
  #kindOf(setup: EvaluatorSetup): Promise<EvaluatorKind> {
    const { nixCommand } = setup;
    const known = this.#kinds.get(nixCommand) ?? this.#probe(setup);
    this.#kinds.set(nixCommand, known);
    known.catch(() => this.#kinds.delete(nixCommand));
    return known;
  }

  async #probe(setup: EvaluatorSetup): Promise<EvaluatorKind> {
    const process = await this.#start(setup, "interpreter");
    let isPure = false;
    const onLine = (line: string): boolean => {
      isPure ||= line.includes(`${PROBE_WORD} pure`);
      return line.includes(`${PROBE_WORD} `);
    };
    const timer = setTimeout(() => process.stop("stalled"), PROBE_MS_MAX);
    const end = await process.run({ lines: [PROBE], onLine });
    clearTimeout(timer);
    if (end === null && isPure) this.#keep(process);
    else process.stop("aborted");
    return isPure ? "interpreter" : "single";
  }

  async #start(setup: EvaluatorSetup, kind: EvaluatorKind): Promise<EvaluatorProcess> {
    const process = await EvaluatorProcess.start(setup, kind);
    this.#all.add(process);
    void process.gone().then(() => {
      this.#all.delete(process);
      this.#options.onEnded?.(process.pid);
    });
    await this.#options.onStarted?.(process.pid);
    return process;
  }

  #drop(process: EvaluatorProcess): void {
    const index = this.#idle.findIndex((idle) => idle.process === process);
    if (index === -1) return;
    this.#idle.splice(index, 1);
    process.stop("aborted");
  }
}

const FORGOTTEN_WORD = "gradient-forgotten";
const FORGOTTEN = `builtins.trace "${FORGOTTEN_WORD}" null`;
const PROBE_WORD = "gradient-probe";
const PROBE = `builtins.trace "${PROBE_WORD} \${if builtins ? currentSystem then "impure" else "pure"}" null`;
