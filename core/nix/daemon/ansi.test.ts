import { expect, test } from "vitest";
import { stripAnsi } from "./ansi.ts";

test.each([
  ["\x1b[31;1merror:\x1b[0m x", "error: x"],
  ["\x1b]8;;http://example.org\x07link\x1b]8;;\x1b\\", "link"],
  ["\x1b[2K\x1b[1Gline\x1b(B", "line"],
  ["plain [31m text", "plain [31m text"],
])("%j reads %j", (raw, text) => {
  expect(stripAnsi(raw)).toBe(text);
});
