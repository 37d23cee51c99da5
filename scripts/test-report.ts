import { relative } from "node:path";
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

export const PASSED: Outcome = { passed: 1, failures: [], skipped: [] };

/** A message tells what was wrong; the whole of it, a dump of a table perhaps, is further up in the output. */
const MESSAGE_LINES_MAX = 30;
const MESSAGE_COLUMNS_MAX = 400;

interface JsonReport {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

/**
 * Counts the tests in the file that vitest's JSON reporter wrote; names begin with the file's path from `root`. What
 * fails outside any test (a file that does not load, a failed hook, an error nobody caught, a run that wrote no report)
 * counts as one failed test.
 */
export function countTests(reportText: string | null, exitCode: number | null, root: string): Outcome {
  const report = parseReport(reportText);
  const end = exitCode === null ? "it did not end by itself" : `exit code ${exitCode}`;
  if (report === null) return failedStep("vitest", `wrote no report (${end}): see its output above`);

  const outcomes = report.testResults.map((file) => countFile(file, root));
  const total = sumOutcomes(outcomes);
  if (total.failures.length > 0 || (exitCode === 0 && report.success)) return total;
  return sumOutcomes([total, failedStep("vitest", `an error outside of any test (${end}): see its output above`)]);
}

function countFile({ name, status, message, assertionResults }: JsonReport["testResults"][number], root: string) {
  const path = relative(root, name);
  const failures: Finding[] = [];
  const skipped: Finding[] = [];
  for (const one of assertionResults) {
    const title = `${path}: ${one.fullName}`;
    if (one.status === "failed") failures.push({ name: title, text: shortMessage(one.failureMessages?.join("\n")) });
    else if (one.status !== "passed") skipped.push({ name: title, text: "" });
  }
  if (status === "failed" && failures.length === 0) failures.push({ name: path, text: shortMessage(message) });
  const reason = failures.length > 0 ? "its file failed before" : "";
  const passed = assertionResults.filter((one) => one.status === "passed").length;
  return { passed, failures, skipped: skipped.map((one) => ({ ...one, text: reason })) };
}

function parseReport(text: string | null): JsonReport | null {
  if (text === null) return null;
  try {
    const report = JSON.parse(text) as JsonReport;
    return Array.isArray(report.testResults) ? report : null;
  } catch {
    return null;
  }
}

export function failedStep(name: string, message: string): Outcome {
  return { passed: 0, failures: [{ name, text: shortMessage(message) }], skipped: [] };
}

function shortMessage(message: string | undefined): string {
  const text = stripVTControlCharacters(message ?? "").trim() || "failed before any of its tests: see the output above";
  const lines = text.split("\n").filter((line) => !/^\s+at .*node_modules/.test(line));
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
