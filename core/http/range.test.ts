import { expect, test } from "vitest";
import { contentRange, parseRange } from "./range.ts";

test("a range is what RFC 9110 says, clipped to the body", () => {
  expect(parseRange("bytes=0-0", 10)).toEqual({ start: 0, length: 1 });
  expect(parseRange("bytes=4-", 10)).toEqual({ start: 4, length: 6 });
  expect(parseRange("bytes=4-99", 10)).toEqual({ start: 4, length: 6 });
  expect(parseRange("bytes=-3", 10)).toEqual({ start: 7, length: 3 });
  expect(parseRange("bytes=-99", 10)).toEqual({ start: 0, length: 10 });
  expect(contentRange({ start: 7, length: 3 }, 10)).toBe("bytes 7-9/10");
});

test("a range beyond the body is unsatisfiable", () => {
  expect(parseRange("bytes=10-", 10)).toBe("unsatisfiable");
  expect(parseRange("bytes=11-12", 10)).toBe("unsatisfiable");
  expect(parseRange("bytes=-0", 10)).toBe("unsatisfiable");
  expect(contentRange("unsatisfiable", 10)).toBe("bytes */10");
});

test.each([
  null,
  "",
  "bytes=-",
  "bytes=5-4",
  "bytes=0-1,3-4",
  "items=0-1",
  "bytes=a-b",
  "bytes=1-2x",
  "bytes=0-9999999999999999",
])("%j is not a range that is served, and the whole body is sent", (header) => {
  expect(parseRange(header, 10)).toBeNull();
});
