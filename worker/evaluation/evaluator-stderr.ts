import type { StorePath } from "#core/nix/store-path.ts";
import { SUBSTITUTER_ADDRESS } from "./local-substituter.ts";
import { parseNixErrorText } from "./nix-error-text.ts";
import { describeNixError, type NixErrorReport, parseNixLogLine } from "./nix-log.ts";
import type { StopReason } from "./process.ts";

export interface EvaluatorMessage {
  readonly level: "warning" | "notice";
  readonly text: string;
}

interface Stoppable {
  stop(reason: StopReason): void;
}

export interface EvaluatorListener {
  /** Each report, in order. It restarts the time that one attribute may take. */
  onReport(report: Readonly<Record<string, unknown>>): void;
  onMessage(message: EvaluatorMessage): void;
  /** A derivation is built because its output is imported. */
  onBuild?(drvPath: StorePath): void;
}

const PLAIN_LINES_MAX = 8;
const MESSAGE_LENGTH_MAX = 8_000;
const LOCK_REFUSED =
  /cannot (?:update (?:flake|unlocked) .*input|write modified lock file)|lock file .* but|requires lock file changes/;
const LOCAL_REFUSED = /in pure eval mode|forbidden in restricted mode/;

/** Reads what an evaluator writes: our reports, warnings and traces for people, and how it failed. */
export class EvaluatorStderr {
  readonly #run: EvaluatorListener;
  readonly #mark: string;
  readonly #takeNote: (report: Readonly<Record<string, unknown>>) => void;
  readonly #plain: string[] = [];
  #failure: { words: (place: (file: string) => string) => string } | null = null;
  #restartTimer: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #process: Stoppable | null = null;
  /** The expression was evaluated to its end. */
  isComplete = false;
  #thrown: { readonly error: unknown } | null = null;

  constructor(run: EvaluatorListener, mark: string, takeNote: (report: Readonly<Record<string, unknown>>) => void) {
    this.#run = run;
    this.#mark = `trace: ${mark}`;
    this.#takeNote = takeNote;
  }

  /** Ends the process when it reports nothing for so long. */
  watch(process: Stoppable, timeoutMs: number): void {
    this.#process = process;
    if (this.#thrown) process.stop("aborted");
    this.#restartTimer = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => process.stop("stalled"), timeoutMs);
    };
    this.#restartTimer();
  }

  stopWatching(): void {
    this.#restartTimer = () => {};
    clearTimeout(this.#timer);
  }

  /** What a listener threw, in a box. It ended the process; whoever waits for that throws it on. */
  get thrown(): { readonly error: unknown } | null {
    return this.#thrown;
  }

  /** True for the last line of the run. */
  read(line: string): boolean {
    if (this.#thrown) return false;
    try {
      return this.#read(line.replace(SUBSTITUTER_ADDRESS, "gradient://caches"));
    } catch (error) {
      this.#thrown = { error };
      this.#process?.stop("aborted");
      return false;
    }
  }

  #read(line: string): boolean {
    const parsed = parseNixLogLine(line);
    if (parsed === null) return false;
    if (parsed.kind === "plain") {
      this.#plain.push(parsed.text.slice(0, MESSAGE_LENGTH_MAX));
      if (this.#plain.length > PLAIN_LINES_MAX) this.#plain.shift();
    } else if (parsed.kind === "build") {
      this.#run.onBuild?.(parsed.drvPath);
    } else if (parsed.text.startsWith(this.#mark)) {
      const report = JSON.parse(parsed.text.slice(this.#mark.length)) as Record<string, unknown>;
      if (report.end === true) return true;
      if (report.complete === true) this.isComplete = true;
      this.#restartTimer();
      this.#takeNote(report);
      this.#run.onReport(report);
    } else this.#readMessage(parsed);
    return false;
  }

  #readMessage({
    level,
    text,
    error: structured,
  }: {
    level: number;
    text: string;
    error: NixErrorReport | null;
  }): void {
    const error = level === 0 ? (structured ?? parseNixErrorText(text)) : null;
    if (error === null) return this.#pass(level, text);
    this.#failure ??= { words: (place) => describeNixError(error, text, place) };
  }

  /** Null when Nix said nothing before it ended. */
  describeFailure(place: (file: string) => string): string | null {
    if (this.#failure !== null) {
      const words = this.#failure.words(place);
      // Git's own words say which repository; Nix only says that git failed.
      return /program 'git' failed/.test(words) ? `${words}${this.plainText()}` : withAdvice(words);
    }
    const overflow = this.#plain.find((line) => line.startsWith("error: "));
    return overflow === undefined ? null : overflow.slice("error: ".length);
  }

  plainText(): string {
    return this.#plain.length === 0 ? "" : `: ${this.#plain.join("\n")}`;
  }

  #pass(level: number, text: string): void {
    const trace = /^trace: (.*)$/s.exec(text);
    const warning = /^(?:(?:evaluation )?warning: |trace: (?:evaluation )?warning: )(.*)$/s.exec(text);
    if (warning) this.#run.onMessage({ level: "warning", text: (warning[1] as string).slice(0, MESSAGE_LENGTH_MAX) });
    else if (trace) this.#run.onMessage({ level: "notice", text: (trace[1] as string).slice(0, MESSAGE_LENGTH_MAX) });
    else if (level === 1) this.#run.onMessage({ level: "warning", text: text.slice(0, MESSAGE_LENGTH_MAX) });
  }
}

function withAdvice(words: string): string {
  if (LOCK_REFUSED.test(words)) {
    return `${words}\nflake.lock does not fit flake.nix: run \`nix flake lock\` and commit the result`;
  }
  if (words.includes("allow-import-from-derivation")) {
    return `${words}\nthis worker does not build while it evaluates: use one with the build capability`;
  }
  if (LOCAL_REFUSED.test(words)) {
    return `${words}\nonly the flake itself and its locked inputs can be read`;
  }
  return words;
}
