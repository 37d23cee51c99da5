import { expect, test } from "vitest";
import { countTests, judgeSkipped, type Outcome, summaryLine } from "./test-report.ts";

function report(status: string, ...tests: string[]): string {
  const assertionResults = tests.map((one, index) => ({
    fullName: `test ${index}`,
    status: one,
    failureMessages: one === "failed" ? ["Error: \u001b[31mwrong\u001b[39m"] : [],
  }));
  return JSON.stringify({
    success: status === "passed",
    testResults: [{ name: "/clone/a.test.ts", status, assertionResults }],
  });
}

function count(text: string | null, exitCode: number | null): Outcome {
  return countTests(text, exitCode, "/clone");
}

test("tests are counted one by one, failed ones with their message", () => {
  const outcome = count(report("failed", "passed", "failed", "passed"), 1);
  const failures = [{ name: "a.test.ts: test 1", text: "Error: wrong" }];
  expect(outcome).toEqual({ passed: 2, failures, skipped: [] });
  expect(summaryLine(outcome)).toBe("2 passed, 1 failed");
});

test("skipped tests are named and counted in the last line", () => {
  const outcome = count(report("passed", "passed", "skipped"), 0);
  expect(outcome.skipped).toEqual([{ name: "a.test.ts: test 1", text: "" }]);
  expect(summaryLine(outcome)).toBe("1 passed, 0 failed, 1 skipped");
});

test.each([
  ["a file that does not load", report("failed"), 1],
  ["a hook that fails before its tests", report("failed", "skipped"), 1],
  ["an error outside of any test", report("passed", "passed"), 1],
  ["a run that was ended", report("passed", "passed"), null],
  ["a run that wrote no report", null, 0],
  ["a report cut short", '{"testResults":[', 0],
])("%s counts as a failed test", (_, text, exitCode) => {
  expect(count(text, exitCode).failures).toHaveLength(1);
});

test("a file that does not load counts beside the tests that failed elsewhere", () => {
  const one = JSON.parse(report("failed", "failed"));
  one.testResults.push({ name: "/clone/b.test.ts", status: "failed", message: "no such module", assertionResults: [] });
  expect(count(JSON.stringify(one), 1).failures).toContainEqual({ name: "b.test.ts", text: "no such module" });
});

test("a message of any length leaves the next one in sight", () => {
  const long = report("failed", "failed").replace("wrong", `${"x".repeat(1000)}${"\\nline".repeat(100)}`);
  const text = count(long, 1).failures[0]?.text as string;
  expect(text.split("\n")).toHaveLength(30);
  expect(text.length).toBeLessThan(1000);
});

test("on CI a skipped test has failed, unless the machine lacks something", () => {
  const outcome = { passed: 3, failures: [], skipped: [{ name: "a.test.ts: b", text: "" }] };
  expect(summaryLine(judgeSkipped(outcome, { ci: true, excuses: [] }))).toBe("3 passed, 1 failed");
  expect(judgeSkipped(outcome, { ci: true, excuses: ["nix is missing"] })).toBe(outcome);
  expect(judgeSkipped(outcome, { ci: false, excuses: [] })).toBe(outcome);
});

test("what tells its reason may be skipped on CI, too", () => {
  const outcome = { passed: 3, failures: [], skipped: [{ name: "Nix of sid", text: "this machine is not a Debian" }] };
  expect(judgeSkipped(outcome, { ci: true, excuses: [] })).toEqual(outcome);
  expect(count(report("failed", "failed", "skipped"), 1).skipped[0]?.text).toBe("its file failed before");
});
