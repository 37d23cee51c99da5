import { expect, test } from "vitest";
import { tooLongName } from "./attribute-length.ts";

test("an attribute has as many characters and parts as a row takes", () => {
  expect(tooLongName(["packages", "x".repeat(4_088)])).toBeNull();
  expect(tooLongName(["packages", "x".repeat(4_089)])).toMatch(/^packages\.x{191}…: .*4096 characters and 64 parts$/);
  expect(tooLongName(Array.from({ length: 64 }, () => "x"))).toBeNull();
  expect(tooLongName(Array.from({ length: 65 }, () => ""))).toContain("64 parts");
});
