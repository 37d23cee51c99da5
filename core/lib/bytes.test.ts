import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { fromHex, textOfCodes, toHex } from "./bytes.ts";

test.each([0, 1, 32, 4_096, 4_097, 100_000])("%i bytes are written in hexadecimal, and read", (length) => {
  const bytes = new Uint8Array(randomBytes(length));
  const text = toHex(bytes);
  expect(text).toBe(Buffer.from(bytes).toString("hex"));
  expect(fromHex(text)).toEqual(bytes);
});

test("a text has its codes, however many they are", () => {
  const codes = Array.from({ length: 20_000 }, (_, index) => (index * 7) % 0xd800);
  const text = textOfCodes(codes);
  expect(text).toHaveLength(20_000);
  expect(codes.every((code, index) => text.charCodeAt(index) === code)).toBe(true);
});
