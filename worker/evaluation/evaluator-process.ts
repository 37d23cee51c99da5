import { dirname, join } from "node:path";
import { EvaluationError } from "./errors.ts";
import {
  type ProcessEnd,
  type ProcessOptions,
  ProcessStartError,
  type ProcessUser,
  type RunningProcess,
  residentBytes,
  type StopReason,
  startProcess,
} from "./process.ts";

/** All that a process is started with: two equal ones may serve each other's evaluations. */
export interface EvaluatorSetup {
  readonly nixCommand: string;
  /** Options that every command of Nix takes. */
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly user: ProcessUser | null;
  readonly memoryBytesMax: number | null;
}

/**
 * An interpreter (`nix repl`) evaluates line by line, survives errors of the language and keeps what was evaluated. A
 * single evaluator (`nix-instantiate`) takes one expression and ends. Both start before they are told what to evaluate.
 */
export type EvaluatorKind = "interpreter" | "single";

export interface EvaluatorTask {
  /** For an interpreter the last one makes it write something that `onLine` answers true to. */
  readonly lines: readonly string[];
  /** Each line that the process writes to standard error; true for the last one of this task. */
  onLine(line: string): boolean;
}

const STDERR_BYTES_MAX = 512 * 1024 * 1024;

/** One task at a time. A process whose task did not end is of no use any more: it was, or has to be, stopped. */
export class EvaluatorProcess {
  readonly setup: EvaluatorSetup;
  readonly kind: EvaluatorKind;
  readonly #process: RunningProcess;
  readonly #ended: Promise<ProcessEnd>;
  #end: ProcessEnd | null = null;
  #task: { readonly onLine: (line: string) => boolean; readonly done: () => void } | null = null;
  /** How many evaluations it has served. */
  evaluations = 0;
  /** The evaluation whose flake it has at hand. */
  owner: object | null = null;

  private constructor(setup: EvaluatorSetup, kind: EvaluatorKind, running: RunningProcess) {
    this.setup = setup;
    this.kind = kind;
    this.#process = running;
    this.#ended = running.ended.then((end) => {
      this.#end = end;
      return end;
    });
  }

  /** Throws `EvaluationError` when it cannot be started. */
  static async start(setup: EvaluatorSetup, kind: EvaluatorKind): Promise<EvaluatorProcess> {
    let read: (line: string) => void = () => {};
    const options: ProcessOptions = {
      ...setup,
      ...commandOf(setup, kind),
      timeoutMs: null,
      hasInput: true,
      stdoutBytesMax: null,
      stderrBytesMax: STDERR_BYTES_MAX,
      onStderrLine: (line) => read(line),
    };
    try {
      const started = new EvaluatorProcess(setup, kind, await startProcess(options));
      read = (line) => started.#read(line);
      return started;
    } catch (error) {
      if (!(error instanceof ProcessStartError)) throw error;
      const advice = "install Nix 2.8 or later on the worker";
      throw new EvaluationError("evaluator_unusable", `${error.message}: ${advice}`, { cause: error });
    }
  }

  get isAlive(): boolean {
    return this.#end === null;
  }

  get pid(): number {
    return this.#process.pid;
  }

  async residentBytes(): Promise<number> {
    return this.#end === null ? await residentBytes(this.#process.pid) : 0;
  }

  /** Null when the task has ended and the process waits for the next one; otherwise how the process ended. */
  async run({ lines, onLine }: EvaluatorTask): Promise<ProcessEnd | null> {
    const done = new Promise<null>((resolve) => {
      this.#task = { onLine, done: () => resolve(null) };
    });
    // What earlier evaluations had to say is not this one's.
    this.#process.forgetOutput();
    this.#process.input?.write(`${lines.join("\n")}\n`);
    if (this.kind === "single") this.#process.input?.end();
    const end = await Promise.race([done, this.#ended]);
    this.#task = null;
    return end;
  }

  /** Kills it with its children. The first reason given is the one reported. */
  stop(reason: StopReason): void {
    this.#process.stop(reason);
  }

  /** Resolves when it is gone. */
  async gone(): Promise<void> {
    await this.#ended;
  }

  #read(line: string): void {
    const task = this.#task;
    if (task?.onLine(line) !== true) return;
    this.#task = null;
    task.done();
  }
}

function commandOf(
  { nixCommand, args }: EvaluatorSetup,
  kind: EvaluatorKind,
): Pick<ProcessOptions, "command" | "args"> {
  if (kind === "interpreter") return { command: nixCommand, args: ["repl", ...args] };
  // It has been installed beside `nix` ever since that exists.
  const command = nixCommand.includes("/") ? join(dirname(nixCommand), "nix-instantiate") : "nix-instantiate";
  return { command, args: ["--eval", "--read-write-mode", ...args, "-"] };
}
