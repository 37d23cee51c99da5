/** What a step of verify adds to the last line. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  /** Full names, with the file in front. */
  readonly skipped: readonly string[];
}

interface JsonReport {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/**
 * Counts the tests in the file that vitest's JSON reporter wrote. What fails outside any test (a file that does not
 * load, a failed hook, an error nobody caught, a run that wrote no report) counts as one failed test.
 */
export function countTests(reportText: string | null, exitCode: number | null): Counts {
  const report = parseReport(reportText);
  if (report === null) return { passed: 0, failed: 1, skipped: [] };

  let passed = 0;
  let failed = 0;
  const skipped: string[] = [];
  for (const { name, status, assertionResults } of report.testResults) {
    const failures = assertionResults.filter((one) => one.status === "failed").length;
    passed += assertionResults.filter((one) => one.status === "passed").length;
    failed += status === "failed" ? Math.max(1, failures) : failures;
    const others = assertionResults.filter((one) => one.status !== "passed" && one.status !== "failed");
    skipped.push(...others.map((one) => `${name}: ${one.fullName}`));
  }
  if (failed === 0 && (exitCode !== 0 || !report.success)) failed = 1;
  return { passed, failed, skipped };
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

/**
 * On CI a test that could have run must have run: skipped on a machine that has no excuse for it, it has failed.
 * Elsewhere a skipped test stays skipped.
 */
export function judgeSkipped(counts: Counts, options: { ci: boolean; excuses: readonly string[] }): Counts {
  if (!options.ci || options.excuses.length > 0) return counts;
  return { passed: counts.passed, failed: counts.failed + counts.skipped.length, skipped: [] };
}

/** The last line of verify, which other programs read. */
export function summaryLine({ passed, failed, skipped }: Counts): string {
  const tail = skipped.length === 0 ? "" : `, ${skipped.length} skipped`;
  return `${passed} passed, ${failed} failed${tail}`;
}
