import { expect, test } from "vitest";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { LogTail } from "./log-tail.ts";

test("the last lines are kept whole, and what is missing before them is counted", () => {
  const tail = new LogTail(12);
  for (const line of ["one\n", "two\n", "three\n", "four\n"]) tail.add(utf8(line));

  const { lines, leftOut } = tail.take();
  expect(lines.map(fromUtf8)).toEqual(["three\n", "four\n"]);
  expect(leftOut).toBe(8);
});

test("of a line that is longer than the tail its end is kept", () => {
  const tail = new LogTail(4);
  tail.add(utf8("abcdefgh"));

  expect(tail.take()).toEqual({ lines: [utf8("efgh")], leftOut: 4 });
});
