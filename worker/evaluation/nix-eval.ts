import { randomBytes } from "node:crypto";
import type { StorePath } from "#core/nix/store-path.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError, throwIfAborted, timedOut } from "./errors.ts";
import type { EvaluatorProcess } from "./evaluator-process.ts";
import { evaluatorSetup, makeEvaluatorHome, type ReadablePlaces } from "./evaluator-setup.ts";
import { type EvaluatorListener, EvaluatorStderr } from "./evaluator-stderr.ts";
import { type FlakeSource, flakeBinding, interpreterLines, singleLines } from "./expressions.ts";
import type { ProcessEnd } from "./process.ts";

/** How one run ended. `message` is Nix's own words, or what we know when it had none. */
export type EvaluatorEnd =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: "error" | "crashed" | "stalled" | "memory"; readonly message: string };

export interface EvaluatorRun extends EvaluatorListener {
  /** The Nix expression. It reports by `say` (`expressions.ts`), under the mark given here. */
  readonly expression: (mark: string) => string;
  /** On the monotonic clock (`performance.now()`), as all deadlines here. */
  readonly deadline: number;
  /** Ends this run alone. */
  readonly signal?: AbortSignal;
  /** In a process that has evaluated nothing before. */
  readonly fresh?: boolean;
}

/** What Nix says when a daemon went away under an interpreter that had waited: no attribute is guilty of that. */
const DAEMON_GONE =
  /unexpected end-of-file|Broken pipe|Connection reset|daemon disconnected|cannot connect to (?:socket|daemon)/i;

/** Runs Nix expressions over one flake, in processes that may have served earlier evaluations and may serve later. */
export class NixEvaluator implements Disposable {
  readonly #environment: EvaluationEnvironment;
  readonly #readable: ReadablePlaces;
  readonly #flake: FlakeSource;
  /** Those of this evaluation that are not at work. */
  readonly #waiting: EvaluatorProcess[] = [];
  readonly #imported = new Set<StorePath>();
  /** Where the flake's files are, once an evaluator said so. */
  #sourcePath: string | null = null;
  #home: Promise<string> | null = null;

  constructor(environment: EvaluationEnvironment, readable: ReadablePlaces, flake: FlakeSource) {
    this.#environment = environment;
    this.#readable = readable;
    this.#flake = flake;
  }

  /**
   * Throws `EvaluationError` when the evaluation was aborted or ran out of time, or when Nix cannot be started:
   * what no attribute is guilty of.
   */
  async run(run: EvaluatorRun): Promise<EvaluatorEnd> {
    return await this.#environment.evaluators.withPlace(async () => {
      const first = await this.#runOnce(run, run.fresh ?? false);
      if (first.isOwn || first.end.ok || first.end.reason === "error") return first.end;
      // What earlier evaluations left in the process may have been too much for it.
      return (await this.#runOnce(run, true)).end;
    });
  }

  /** Derivations that were built since this was asked last, because their outputs are imported. */
  takeImported(): StorePath[] {
    const taken = [...this.#imported];
    this.#imported.clear();
    return taken;
  }

  /** Processes that are well are kept for later evaluations. */
  [Symbol.dispose](): void {
    for (const process of this.#waiting.splice(0)) this.#environment.evaluators.giveBack(process);
  }

  /** `isOwn`: no other evaluation had used the process before. */
  async #runOnce(run: EvaluatorRun, fresh: boolean): Promise<{ readonly end: EvaluatorEnd; readonly isOwn: boolean }> {
    throwIfAborted(this.#environment.signal);
    const process = await this.#take(fresh);
    const isOwn = process.evaluations === 1;
    const mark = `gradient-${randomBytes(16).toString("hex")} `;
    const listener: EvaluatorListener = {
      onReport: (report) => run.onReport(report),
      onMessage: (message) => run.onMessage(message),
      onBuild: (drvPath) => void this.#imported.add(drvPath),
    };
    const stderr = new EvaluatorStderr(listener, mark, (report) => this.#takeNote(report));
    const end = await this.#runIn(process, run, mark, stderr);
    if (end === null) this.#waiting.push(process);
    if (stderr.thrown) throw stderr.thrown.error;
    return { end: this.#judge(process, end, stderr), isOwn };
  }

  async #take(fresh: boolean): Promise<EvaluatorProcess> {
    const own = fresh ? undefined : this.#waiting.pop();
    if (own?.isAlive) return own;
    const { evaluators } = this.#environment;
    this.#home ??= makeEvaluatorHome(this.#environment);
    const setup = evaluatorSetup(this.#environment, await this.#home, this.#readable);
    const process = await evaluators.take(setup, { fresh });
    process.evaluations++;
    return process;
  }

  async #runIn(
    process: EvaluatorProcess,
    run: EvaluatorRun,
    mark: string,
    stderr: EvaluatorStderr,
  ): Promise<ProcessEnd | null> {
    const { signal: whole, attributeTimeoutMs } = this.#environment;
    const signal = run.signal ? AbortSignal.any([whole, run.signal]) : whole;
    const abort = () => process.stop("aborted");
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    const timer = setTimeout(() => process.stop("timed_out"), Math.max(1, run.deadline - performance.now()));
    stderr.watch(process, attributeTimeoutMs);
    try {
      const lines = this.#linesFor(process, mark, run.expression(mark));
      return await process.run({ lines, onLine: (line) => stderr.read(line) });
    } finally {
      stderr.stopWatching();
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }

  #linesFor(process: EvaluatorProcess, mark: string, expression: string): readonly string[] {
    if (process.kind === "single") return singleLines(this.#flake, mark, expression);
    const binding = process.owner === this ? [] : [flakeBinding(this.#flake)];
    process.owner = this;
    return [...binding, ...interpreterLines(mark, expression)];
  }

  #takeNote(report: Readonly<Record<string, unknown>>): void {
    if (typeof report.source === "string") this.#sourcePath = report.source;
  }

  #judge(process: EvaluatorProcess, end: ProcessEnd | null, stderr: EvaluatorStderr): EvaluatorEnd {
    if (end === null) return this.#judgeWords(process, stderr);
    if (end.stopped === "aborted") throw new EvaluationError("aborted", "the evaluation was aborted");
    if (end.stopped === "timed_out") throw timedOut();
    if (end.stopped === "stalled") {
      const seconds = Math.round(this.#environment.attributeTimeoutMs / 1000);
      return { ok: false, reason: "stalled", message: `it did not evaluate within ${seconds} seconds` };
    }
    if (end.stopped === "too_much_memory") {
      return { ok: false, reason: "memory", message: "its evaluation needs more memory than the worker allows" };
    }
    if (end.stopped !== null) {
      return { ok: false, reason: "error", message: "its evaluation writes more messages than the worker accepts" };
    }
    if (end.code === 0 && stderr.isComplete) return { ok: true };
    const message = stderr.describeFailure((file) => this.#place(file));
    if (message !== null) return { ok: false, reason: "error", message };
    const how = end.signal ? `ended by ${end.signal}` : `exit code ${end.code}`;
    return { ok: false, reason: "crashed", message: `the evaluator crashed (${how})${stderr.plainText()}` };
  }

  /** Of a process that goes on. */
  #judgeWords(process: EvaluatorProcess, stderr: EvaluatorStderr): EvaluatorEnd {
    if (stderr.isComplete) return { ok: true };
    const message = stderr.describeFailure((file) => this.#place(file)) ?? "the evaluator gave no result";
    if (!DAEMON_GONE.test(message) || process.evaluations === 1) return { ok: false, reason: "error", message };
    process.stop("aborted");
    return { ok: false, reason: "crashed", message };
  }

  /** Files of the flake lose the folder they happen to be in; files of inputs keep the name of their store path. */
  #place(file: string): string {
    const { storeRoot } = this.#environment;
    const logical = storeRoot !== "" && file.startsWith(`${storeRoot}/`) ? file.slice(storeRoot.length) : file;
    if (this.#sourcePath !== null && logical.startsWith(`${this.#sourcePath}/`)) {
      return logical.slice(this.#sourcePath.length + 1);
    }
    // Before the flake has said where it is, only its own flake.nix was read.
    if (this.#sourcePath === null && /^\/nix\/store\/[^/]+-source\/flake\.nix$/.test(logical)) return "flake.nix";
    return logical.replace(`«git+file://${this.#readable.folder}`, "«").replace(/^«\?[^»]*»\//, "");
  }
}
