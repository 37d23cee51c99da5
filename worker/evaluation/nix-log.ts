import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";

/** A line that `nix --log-format internal-json` wrote to standard error. */
export type NixLogLine =
  | { readonly kind: "message"; readonly level: number; readonly text: string; readonly error: NixErrorReport | null }
  /** A derivation is being built, for an import. */
  | { readonly kind: "build"; readonly drvPath: StorePath }
  /** Not of the format: what git, ssh or a crashing evaluator wrote. */
  | { readonly kind: "plain"; readonly text: string };

export interface NixErrorReport {
  /** Nix's own words, without trace and place. */
  readonly words: string;
  readonly file: string | null;
  readonly line: number | null;
  readonly column: number | null;
}

// ECMA-48: control sequences, and the operating system commands that make links.
// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with a control character
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\^_])/g;
/** What a person needs of a trace: which option, file or derivation led there. The rest is the evaluator's inside. */
const TELLING_TRACE =
  /^\s*… (while evaluating (?:the option|definitions from|the attribute '[^']*' of the derivation) ?.*?):?$/gm;
const TRACES_MAX = 4;
/** `actBuild` of Nix's logging.hh. */
const BUILD_ACTIVITY = 105;
const WORDS_MAX = 8_000;

/** Null for the format's own lines that carry no message (activities, progress, build logs). */
export function parseNixLogLine(line: string): NixLogLine | null {
  if (!line.startsWith("@nix ")) return line.trim() === "" ? null : { kind: "plain", text: stripAnsi(line) };
  let value: unknown;
  try {
    value = JSON.parse(line.slice(5));
  } catch {
    // The builders of an import from derivation write to the same log and can begin a line like this.
    return { kind: "plain", text: stripAnsi(line) };
  }
  if (isRecord(value) && value.action === "start") return readActivity(value);
  if (!isRecord(value) || value.action !== "msg" || typeof value.msg !== "string") return null;
  const level = typeof value.level === "number" ? value.level : 0;
  return { kind: "message", level, text: stripAnsi(value.msg), error: readError(value) };
}

/**
 * Nix's words, where it was, and what led there; `place` turns a file's name into one that people know.
 * `text` is the whole message as Nix prints it, which holds the trace.
 */
export function describeNixError(report: NixErrorReport, text: string, place: (file: string) => string): string {
  const lines = [report.words.trim().slice(0, WORDS_MAX)];
  if (report.file !== null && report.line !== null && !report.file.startsWith("«string»")) {
    const file = place(report.file.replace(/:\d+:\d+$/, ""));
    lines.push(`at ${file}:${report.line}${report.column === null ? "" : `:${report.column}`}`);
  }
  const traces = [...text.matchAll(TELLING_TRACE)].map((match) => match[1] as string);
  lines.push(...[...new Set(traces)].slice(0, TRACES_MAX));
  return lines.join("\n");
}

function readActivity({ type, fields }: Record<string, unknown>): NixLogLine | null {
  const [path] = type === BUILD_ACTIVITY && Array.isArray(fields) ? (fields as unknown[]) : [];
  const drvPath = typeof path === "string" ? parseStorePath(path) : null;
  return drvPath?.endsWith(".drv") ? { kind: "build", drvPath } : null;
}

export function stripAnsi(text: string): string {
  return text.replace(ANSI, "");
}

function readError(value: Record<string, unknown>): NixErrorReport | null {
  if (typeof value.raw_msg !== "string") return null;
  const { file, line, column } = value;
  return {
    words: stripAnsi(value.raw_msg),
    file: typeof file === "string" && file !== "" ? stripAnsi(file) : null,
    line: typeof line === "number" && line > 0 ? line : null,
    column: typeof column === "number" && column > 0 ? column : null,
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
