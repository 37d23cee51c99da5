import fc from "fast-check";
import { expect, test } from "vitest";
import { AssertionError } from "../lib/assert.ts";
import { byteStringBytes, byteStringOf, byteStringOfText, byteStringText } from "./byte-string.ts";

test("all bytes survive the way to a byte string and back, also many of them", () => {
  const all = Uint8Array.from({ length: 20_000 }, (_, index) => index % 256);
  expect(byteStringBytes(byteStringOf(all))).toEqual(all);
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(byteStringBytes(byteStringOf(bytes))).toEqual(bytes);
    }),
  );
});

test("text survives the way to a byte string and back", () => {
  expect(byteStringOfText("plain")).toBe("plain");
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      expect(byteStringText(byteStringOfText(text))).toBe(text);
    }),
  );
  expect(byteStringText("\xff")).toBe("\ufffd");
});

test("a text that is no byte string is refused instead of losing its characters", () => {
  expect(() => byteStringBytes("naïve – text")).toThrow(AssertionError);
});
