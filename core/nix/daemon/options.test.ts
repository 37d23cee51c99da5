import { expect, test } from "vitest";
import { canReplaceOptions, defaultDaemonOptions, equalOptions } from "./options.ts";

const withOverrides = (...overrides: [string, string][]) => ({
  ...defaultDaemonOptions,
  overrides: new Map(overrides),
});

test("options are equal when all settings and overrides are", () => {
  expect(equalOptions(withOverrides(["timeout", "1"]), withOverrides(["timeout", "1"]))).toBe(true);
  expect(equalOptions(withOverrides(["timeout", "1"]), withOverrides(["timeout", "2"]))).toBe(false);
  expect(equalOptions(withOverrides(), withOverrides(["timeout", "2"]))).toBe(false);
  expect(equalOptions(withOverrides(), { ...withOverrides(), buildCores: 3 })).toBe(false);
});

test("an override that was sent can be changed but not taken back", () => {
  expect(canReplaceOptions(withOverrides(["timeout", "1"]), withOverrides(["timeout", "2"], ["cores", "1"]))).toBe(
    true,
  );
  expect(canReplaceOptions(withOverrides(["timeout", "1"]), withOverrides(["cores", "1"]))).toBe(false);
});
