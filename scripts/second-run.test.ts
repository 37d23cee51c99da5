import { expect, test } from "vitest";
import { afterSecondRun, filesToRunAgain } from "./second-run.ts";
import type { FileOutcome } from "./test-report.ts";

/** A file with three tests, of which the given ones failed. */
function fileOf(path: string, failed: readonly string[] = []): FileOutcome {
  const failures = failed.map((name) => ({ name: `${path}: ${name}`, text: "wrong" }));
  return { path, passed: 3 - failed.length, failures, skipped: [] };
}

test("the files of which something failed are run again", () => {
  expect(filesToRunAgain([fileOf("a"), fileOf("b", ["x"]), fileOf("c", ["x", "y"])])).toEqual(["b", "c"]);
});

test.each([
  ["many files failed", ["a", "b", "c", "d"].map((path) => fileOf(path, ["x"]))],
  ["an error belongs to no file", [fileOf("a", ["x"]), fileOf("", ["an error outside of any test"])]],
])("nothing is run again where %s", (_, outcomes) => {
  expect(filesToRunAgain(outcomes)).toEqual([]);
});

test("what passes alone has passed, and is told as what failed at first", () => {
  const { outcome, unsteady } = afterSecondRun([fileOf("a"), fileOf("b", ["x"])], [fileOf("b")]);
  expect(outcome).toEqual({ passed: 6, failures: [], skipped: [] });
  expect(unsteady).toEqual([{ name: "b: x", text: "wrong" }]);
});

test("what fails again, or only then, has failed", () => {
  const { outcome, unsteady } = afterSecondRun([fileOf("b", ["x", "y"])], [fileOf("b", ["y", "z"])]);
  expect(outcome.failures.map(({ name }) => name)).toEqual(["b: y", "b: z"]);
  expect(unsteady.map(({ name }) => name)).toEqual(["b: x"]);
});

test("what is skipped the second time has failed", () => {
  const second: FileOutcome = { path: "b", passed: 2, failures: [], skipped: [{ name: "b: x", text: "no Nix" }] };
  const { outcome, unsteady } = afterSecondRun([fileOf("b", ["x"])], [second]);
  expect(outcome.failures.map(({ name }) => name)).toEqual(["b: x"]);
  expect(unsteady).toEqual([]);
});

test("a second run that tells nothing saves nothing", () => {
  const lost: FileOutcome = { path: "", passed: 0, failures: [{ name: "vitest", text: "did not tell" }], skipped: [] };
  const { outcome } = afterSecondRun([fileOf("b", ["x"])], [lost]);
  expect(outcome.failures.map(({ name }) => name)).toEqual(["b: x", "vitest"]);
});
