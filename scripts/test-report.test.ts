import { expect, test } from "vitest";
import {
  judgeSkipped,
  outcomesOf,
  type ReportedModule,
  readOutcomes,
  summaryLine,
  sumOutcomes,
} from "./test-report.ts";

const outcomeOf = (...reported: Parameters<typeof outcomesOf>) => sumOutcomes(outcomesOf(...reported));
const readOutcome = (...written: Parameters<typeof readOutcomes>) => sumOutcomes(readOutcomes(...written));

const WRONG = { message: "\u001b[31mwrong\u001b[39m", diff: "- one\n+ two", stacks: [{ file: "a.ts", line: 3 }] };

/** A file with a test for each state; its own error and that of its suite when they are given. */
function fileOf(states: readonly string[], own = [] as { message: string }[], suite = own): ReportedModule {
  return {
    relativeModuleId: "a.test.ts",
    errors: () => own,
    children: {
      allSuites: () => [{ fullName: "a suite", errors: () => suite }],
      allTests: () =>
        states.map((state, index) => ({
          fullName: `test ${index}`,
          result: () => ({ state, errors: state === "failed" ? [WRONG] : undefined }),
        })),
    },
  };
}

test("tests are counted one by one, failed ones with message, difference and place", () => {
  const written = JSON.stringify(outcomesOf([fileOf(["passed", "failed", "passed"])], []));
  const outcome = readOutcome(written, 1);
  const failures = [{ name: "a.test.ts: test 1", text: "wrong\n- one\n+ two\nat a.ts:3" }];
  expect(outcome).toEqual({ passed: 2, failures, skipped: [] });
  expect(summaryLine(outcome)).toBe("2 passed, 1 failed");
});

test("skipped tests are named and counted in the last line", () => {
  const outcome = outcomeOf([fileOf(["passed", "skipped"])], []);
  expect(outcome.skipped).toEqual([{ name: "a.test.ts: test 1", text: "" }]);
  expect(summaryLine(outcome)).toBe("1 passed, 0 failed, 1 skipped");
});

test.each([
  ["a file that does not load", fileOf([], [WRONG], []), []],
  ["a hook that fails before its tests", fileOf(["skipped"], [], [WRONG]), []],
  ["an error outside of any test", fileOf(["passed"]), [WRONG]],
])("%s counts as a failed test", (_, file, unhandled) => {
  expect(outcomeOf([file], unhandled).failures).toEqual([expect.objectContaining({ text: expect.any(String) })]);
});

test.each([
  ["failed without a failed test", JSON.stringify(outcomesOf([fileOf(["passed"])], [])), 1],
  ["was ended", JSON.stringify(outcomesOf([fileOf(["passed"])], [])), null],
  ["wrote nothing", null, 0],
  ["wrote half of it", '{"passed":1,', 0],
])("a run that %s has failed", (_, text, exitCode) => {
  expect(readOutcome(text, exitCode).failures).toHaveLength(1);
});

test("a message of any length leaves the next one in sight", () => {
  const failures = [{ name: "a", text: `${"x".repeat(1000)}${"\nline".repeat(100)}` }];
  const text = readOutcome(JSON.stringify([{ path: "a", passed: 0, failures, skipped: [] }]), 1).failures[0]
    ?.text as string;
  expect(text.split("\n")).toHaveLength(60);
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
  expect(outcomeOf([fileOf(["skipped"], [], [WRONG])], []).skipped[0]?.text).not.toBe("");
});
