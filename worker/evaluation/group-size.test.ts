import { expect, test } from "vitest";
import { GroupSize } from "./group-size.ts";

test("groups grow while full ones are cheap, up to a limit, and begin anew after one that was not", () => {
  const size = new GroupSize();
  const sizes = [size.max];
  for (const ms of [100, 100, 100, 600, 100, null]) {
    size.measured(size.max, ms);
    sizes.push(size.max);
  }
  expect(sizes).toEqual([64, 256, 1_024, 1_024, 64, 256, 64]);

  size.measured(3, 10);
  expect(size.max).toBe(64);
});
