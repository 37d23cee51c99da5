import { expect, test } from "vitest";
import { countTests, judgeSkipped, summaryLine } from "./test-report.ts";

function report(status: string, ...tests: string[]): string {
  const assertionResults = tests.map((one, index) => ({ fullName: `test ${index}`, status: one }));
  return JSON.stringify({
    success: status === "passed",
    testResults: [{ name: "a.test.ts", status, assertionResults }],
  });
}

test("tests are counted one by one and skipped ones are named", () => {
  const counts = countTests(report("failed", "passed", "failed", "skipped", "passed"), 1);
  expect(counts).toEqual({ passed: 2, failed: 1, skipped: ["a.test.ts: test 2"] });
  expect(summaryLine(counts)).toBe("2 passed, 1 failed, 1 skipped");
});

test("without skipped tests the last line has two numbers", () => {
  expect(summaryLine(countTests(report("passed", "passed"), 0))).toBe("1 passed, 0 failed");
});

test.each([
  ["a file that does not load", report("failed"), 1],
  ["a hook that fails before its tests", report("failed", "skipped"), 1],
  ["an error outside of any test", report("passed", "passed"), 1],
  ["a run that wrote no report", null, 0],
  ["a report cut short", '{"testResults":[', 0],
])("%s counts as a failed test", (_, text, exitCode) => {
  expect(countTests(text, exitCode).failed).toBe(1);
});

test("a file that does not load counts beside the tests that failed elsewhere", () => {
  const one = JSON.parse(report("failed", "failed"));
  one.testResults.push({ name: "b.test.ts", status: "failed", assertionResults: [] });
  expect(countTests(JSON.stringify(one), 1).failed).toBe(2);
});

test("on CI a skipped test has failed, unless the machine lacks something", () => {
  const counts = { passed: 3, failed: 1, skipped: ["a.test.ts: b"] };
  expect(judgeSkipped(counts, { ci: true, excuses: [] })).toEqual({ passed: 3, failed: 2, skipped: [] });
  expect(judgeSkipped(counts, { ci: true, excuses: ["nix is missing"] })).toBe(counts);
  expect(judgeSkipped(counts, { ci: false, excuses: [] })).toBe(counts);
});
