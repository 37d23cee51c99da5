import { expect, test } from "vitest";
import { HOUR } from "../lib/clock.ts";
import { bytesToFree, FRESH_PATH_MS, GIGABYTE, idleMsMin } from "./retention.ts";

test("a cache is made smaller before it is full, down to nine tenths of its limit", () => {
  expect(bytesToFree(9.5 * GIGABYTE, 10)).toBe(0);
  expect(bytesToFree(9.6 * GIGABYTE, 10)).toBe(0.6 * GIGABYTE);
  expect(bytesToFree(20 * GIGABYTE, 10)).toBe(11 * GIGABYTE);
});

test("a cache without a limit never has to be smaller", () => {
  expect(bytesToFree(1_000 * GIGABYTE, 0)).toBe(0);
});

test("0 hours mean that nothing goes for lack of use, and a full cache makes room nevertheless", () => {
  expect(idleMsMin({ unusedMs: 0 }, 0)).toBeNull();
  expect(idleMsMin({ unusedMs: 0 }, 1)).toBe(FRESH_PATH_MS);
  expect(idleMsMin({ unusedMs: 336 * HOUR }, 0)).toBe(336 * HOUR);
});
