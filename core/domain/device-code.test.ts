import { expect, test } from "vitest";
import { systemRandom } from "../lib/ids.ts";
import { generateDeviceCode, generateUserCode, parseUserCode } from "./device-code.ts";

test("codes are long, random, and have nothing in them that looks like something else", () => {
  const users = new Set(Array.from({ length: 500 }, () => generateUserCode(systemRandom)));
  expect(users.size).toBe(500);
  for (const code of users) expect(code).toMatch(/^[A-HJKMNP-Z2-9]{4}-[A-HJKMNP-Z2-9]{4}$/);
  expect(generateDeviceCode(systemRandom)).toMatch(/^[A-Za-z0-9]{64}$/);
  expect(generateDeviceCode(systemRandom)).not.toBe(generateDeviceCode(systemRandom));
});

test("a code is known however it is typed, and nothing else is one", () => {
  for (const typed of ["ABCD-2345", "abcd-2345", " abcd2345 ", "AbCd2345"]) {
    expect(parseUserCode(typed)).toBe("ABCD-2345");
  }
  for (const typed of ["", "ABCD", "ABCD-234", "ABCD-23456", "AB-CD2345", "ABCD-2340", "ABCO-2345", "ABCD--2345"]) {
    expect([typed, parseUserCode(typed)]).toEqual([typed, null]);
  }
});
