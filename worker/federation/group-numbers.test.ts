import { expect, test } from "vitest";
import { ManualClock } from "#test/support/manual-clock.ts";
import { GroupNumbers } from "./group-numbers.ts";

test("a group keeps its number, and one that is gone leaves its number unused for a minute", async () => {
  const clock = new ManualClock();
  const numbers = new GroupNumbers(clock, 3);
  expect(numbers.assign(["a", "b"])).toEqual(["a", "b"]);
  expect(numbers.assign(["b", "c"])).toEqual([null, "b", "c"]);
  expect(numbers.assign(["b", "c", "a"])).toEqual(["a", "b", "c"]);

  expect(numbers.assign(["b", "c", "d"])).toEqual([null, "b", "c"]);
  await clock.advance(59_000);
  expect(numbers.assign(["b", "c", "d"])).toEqual([null, "b", "c"]);
  await clock.advance(1_000);
  expect(numbers.assign(["b", "c", "d"])).toEqual(["d", "b", "c"]);
});
