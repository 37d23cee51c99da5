import { expect, test } from "vitest";
import { parseNixErrorText } from "./nix-error-text.ts";

const SOURCE = "            1| { a = 1; }.b\n             | ^\n";
const CALL = `       … while calling the 'throw' builtin\n         at «string»:1:1:\n${SOURCE}\n`;

test("the words of an error are read without what led there, the place and the source", () => {
  const old = `error: attribute 'b' missing\n\n       at «string»:1:1:\n\n${SOURCE}       Did you mean a?`;
  const recent = `error:\n${CALL}       … while evaluating the option \`a.b':\n\n       error: no b`;

  const words = "attribute 'b' missing\nDid you mean a?";
  expect(parseNixErrorText(old)).toEqual({ words, file: "«string»", line: 1, column: 1 });
  expect(parseNixErrorText(recent)).toEqual({ words: "no b", file: null, line: null, column: null });
});

test("words of several lines keep their paragraphs, and may speak of errors themselves", () => {
  const words = "first\nsecond\n\nthird: error: x\n  indented";
  const old = "error: first\n       second\n\n       third: error: x\n         indented";
  const recent = `error:\n${CALL}       ${old}`;

  expect(parseNixErrorText(old)?.words).toBe(words);
  expect(parseNixErrorText(recent)?.words).toBe(words);
  expect(parseNixErrorText("trace: error: nothing")).toBeNull();
});
