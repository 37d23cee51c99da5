import { stripVTControlCharacters } from "node:util";

export interface Finding {
  readonly name: string;
  /** Of a failure its message; of a skipped test its reason, empty when the test does not tell it. */
  readonly text: string;
}

/** What a step of verify adds to the last line. */
export interface Outcome {
  readonly passed: number;
  readonly failures: readonly Finding[];
  readonly skipped: readonly Finding[];
}

/** The outcome of one test file, and of what went wrong in no file at all (path ""). */
export interface FileOutcome extends Outcome {
  /** Relative to the repository. */
  readonly path: string;
}

export const PASSED: Outcome = { passed: 1, failures: [], skipped: [] };

/** A message tells what was wrong; the whole of it, a dump of a table perhaps, is further up in the output. */
const MESSAGE_LINES_MAX = 60;
const MESSAGE_COLUMNS_MAX = 400;

interface ReportedError {
  readonly message: string;
  readonly diff?: string | undefined;
  readonly stacks?: readonly { readonly file: string; readonly line: number }[] | undefined;
}

/** The part of vitest's `TestModule` that counts. */
export interface ReportedModule {
  readonly relativeModuleId: string;
  errors(): readonly ReportedError[];
  readonly children: {
    allSuites(): Iterable<{ readonly fullName: string; errors(): readonly ReportedError[] }>;
    allTests(): Iterable<{ readonly fullName: string; result(): ReportedResult }>;
  };
}

interface ReportedResult {
  readonly state: string;
  readonly errors?: readonly ReportedError[] | undefined;
  /** What the test gave as its reason to be skipped. */
  readonly note?: string | undefined;
}

/** What fails outside any test (a file that does not load, a failed hook, an error nobody caught) is a failure, too. */
export function outcomesOf(modules: readonly ReportedModule[], unhandled: readonly ReportedError[]): FileOutcome[] {
  const files = modules.map(countModule);
  if (unhandled.length === 0) return files;
  const failures = unhandled.map((error) => ({ name: "an error outside of any test", text: describe([error]) }));
  return [...files, { path: "", passed: 0, failures, skipped: [] }];
}

function countModule(file: ReportedModule): FileOutcome {
  const path = file.relativeModuleId;
  const failures: Finding[] = [];
  if (file.errors().length > 0) failures.push({ name: path, text: describe(file.errors()) });
  for (const suite of file.children.allSuites()) {
    if (suite.errors().length > 0)
      failures.push({ name: `${path}: ${suite.fullName}`, text: describe(suite.errors()) });
  }
  const afterFailure = failures.length > 0 ? "what comes before it failed" : "";

  let passed = 0;
  const skipped: Finding[] = [];
  for (const one of file.children.allTests()) {
    const { state, errors = [], note } = one.result();
    const name = `${path}: ${one.fullName}`;
    if (state === "passed") passed++;
    else if (state === "failed") failures.push({ name, text: describe(errors) });
    else skipped.push({ name, text: note ?? afterFailure });
  }
  return { path, passed, failures, skipped };
}

function describe(errors: readonly ReportedError[]): string {
  return errors
    .map(({ message, diff, stacks }) => {
      const at = stacks?.[0];
      return [message, diff, at && `at ${at.file}:${at.line}`].filter((part) => part).join("\n");
    })
    .join("\n");
}

/** Reads what the reporter wrote. A run that ended otherwise than that says, or wrote nothing, has failed. */
export function readOutcomes(text: string | null, exitCode: number | null): FileOutcome[] {
  const end = exitCode === null ? "it did not end by itself" : `exit code ${exitCode}`;
  const failed = (message: string) => ({ path: "", ...failedStep("vitest", `${message} (${end}), see its output`) });
  const files = parseOutcomes(text);
  if (files === null) return [failed("did not tell what became of the tests")];
  const shortened = files.map((file) => ({
    ...file,
    failures: file.failures.map(({ name, text: message }) => ({ name, text: shorten(message) })),
  }));
  if (exitCode === 0 || shortened.some(({ failures }) => failures.length > 0)) return shortened;
  return [...shortened, failed("failed outside of any test")];
}

function parseOutcomes(text: string | null): FileOutcome[] | null {
  if (text === null) return null;
  try {
    return JSON.parse(text) as FileOutcome[];
  } catch {
    return null;
  }
}

export function failedStep(name: string, message: string): Outcome {
  return { passed: 0, failures: [{ name, text: shorten(message) }], skipped: [] };
}

function shorten(message: string): string {
  const lines = stripVTControlCharacters(message).trim().split("\n");
  return lines
    .slice(0, MESSAGE_LINES_MAX)
    .map((line) => (line.length > MESSAGE_COLUMNS_MAX ? `${line.slice(0, MESSAGE_COLUMNS_MAX)}…` : line))
    .join("\n");
}

export function sumOutcomes(outcomes: readonly Outcome[]): Outcome {
  return {
    passed: outcomes.reduce((sum, one) => sum + one.passed, 0),
    failures: outcomes.flatMap((one) => one.failures),
    skipped: outcomes.flatMap((one) => one.skipped),
  };
}

/**
 * On CI a test that could have run must have run: skipped on a machine that has no excuse for it, and without a reason
 * of its own, it has failed. Elsewhere a skipped test stays skipped.
 */
export function judgeSkipped(outcome: Outcome, options: { ci: boolean; excuses: readonly string[] }): Outcome {
  if (!options.ci || options.excuses.length > 0) return outcome;
  const text = "skipped, though everything that the tests need is on this machine";
  const unexcused = outcome.skipped.filter((one) => one.text === "").map(({ name }) => ({ name, text }));
  const excused = outcome.skipped.filter((one) => one.text !== "");
  return { passed: outcome.passed, failures: [...outcome.failures, ...unexcused], skipped: excused };
}

/** The last line of verify, which other programs read. */
export function summaryLine({ passed, failures, skipped }: Outcome): string {
  const tail = skipped.length === 0 ? "" : `, ${skipped.length} skipped`;
  return `${passed} passed, ${failures.length} failed${tail}`;
}
