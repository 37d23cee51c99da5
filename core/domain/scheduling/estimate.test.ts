import { expect, test } from "vitest";
import { estimate, type OpenBuild } from "./estimate.ts";

function open(id: string, minutes: readonly number[], needs: readonly string[] = [], ranForMs = 0): OpenBuild {
  return { id, durationsMs: minutes.map((minute) => minute * 60_000), ranForMs, needs };
}

const MINUTE = 60_000;

test("with places enough it takes as long as the longest chain", () => {
  const builds = [open("a", [1]), open("b", [5], ["a"]), open("c", [2], ["a"]), open("d", [3], ["b", "c"])];
  expect(estimate(builds, 16)?.medianMs).toBe(9 * MINUTE);
});

test("with few places it takes as long as the work", () => {
  const builds = Array.from({ length: 30 }, (_, i) => open(`${i}`, [1]));
  expect(estimate(builds, 3)?.medianMs).toBe(10 * MINUTE);
});

test("what is not known counts as the average of the rest, and nothing is said when nothing is known", () => {
  const builds = [open("a", [4]), open("b", [], ["a"])];
  expect(estimate(builds, 9)).toMatchObject({ medianMs: 8 * MINUTE, openBuilds: 2, knownBuilds: 1 });
  expect(estimate([open("a", [])], 9)).toBeNull();
  expect(estimate([], 9)).toBeNull();
});

test("what runs has less to go, but is never over before it is", () => {
  expect(estimate([open("a", [10], [], 4 * MINUTE)], 1)?.medianMs).toBe(6 * MINUTE);
  expect(estimate([open("a", [10], [], 99 * MINUTE)], 1)?.medianMs).toBe(1_000);
});

test("the ninetieth of what a package took is the careful answer", () => {
  expect(estimate([open("a", [1, 1, 1, 1, 1, 1, 1, 1, 2, 9])], 1)).toMatchObject({
    medianMs: MINUTE,
    ninetiethMs: 2 * MINUTE,
  });
});

test("needs that are not in the graph are not waited for", () => {
  expect(estimate([open("a", [1], ["gone"])], 1)?.medianMs).toBe(MINUTE);
});
