import { expect, test } from "vitest";
import { allowsRange, isNotModified } from "./conditional.ts";

test("a client that has the representation is told so", () => {
  for (const known of ['"a"', 'W/"a"', '"x", "a"', "*", ' "a" ']) {
    expect(isNotModified(new Headers({ "if-none-match": known }), '"a"'), known).toBe(true);
  }
  for (const known of ['"b"', "a", '"x", "y"', ""]) {
    expect(isNotModified(new Headers({ "if-none-match": known }), '"a"'), known).toBe(false);
  }
  expect(isNotModified(new Headers(), '"a"')).toBe(false);
});

test("a range is only given of the representation that the client began with", () => {
  expect(allowsRange(new Headers(), '"a"')).toBe(true);
  expect(allowsRange(new Headers({ "if-range": '"a"' }), '"a"')).toBe(true);
  expect(allowsRange(new Headers({ "if-range": '"b"' }), '"a"')).toBe(false);
  expect(allowsRange(new Headers({ "if-range": 'W/"a"' }), '"a"')).toBe(false);
});
