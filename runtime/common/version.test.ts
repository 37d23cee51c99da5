import { expect, test } from "vitest";
import { VERSION as released } from "#runtime/node/version.ts";
import { VERSION } from "./version.ts";

test("the version that is written down is that of the release", () => {
  expect(VERSION).toBe(released);
});
