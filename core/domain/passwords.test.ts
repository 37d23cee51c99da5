import { expect, test } from "vitest";
import { isPasswordLength, requirePassword } from "./passwords.ts";

test("a refused password is told the first rule it breaks, and never repeated", () => {
  const cases: [string, string | null][] = [
    ["Tr0ub4dor&3x", null],
    ["Ünïcode-1234x".replace("1234", "1357"), null],
    [`Aa1!${"xy".repeat(62)}`, null],
    ["Aa1!xyz", "8 to 128 bytes"],
    [`Aa1!${"é".repeat(63)}`, "8 to 128 bytes"],
    ["lower1!case", "upper-case"],
    ["UPPER1!CASE", "lower-case"],
    ["NoDigits!x", "digit"],
    ["N0specials1x", "one of"],
    ["My-Passw0rd!", null],
    ["My-PassWord1!", "password"],
    ["Xaaa-1-yz!", "three times"],
    ["Xabcd-1-y!", "ascending"],
    ["X6789-qw!y", "ascending"],
    ["Xabd-1257!", null],
  ];
  for (const [password, reason] of cases) {
    let message: string | null = null;
    try {
      requirePassword(password);
    } catch (error) {
      message = (error as Error).message;
    }
    expect([password, message]).toEqual([password, reason === null ? null : expect.stringContaining(reason)]);
    expect(message ?? "").not.toContain(password);
  }
});

test("what no password can be is not hashed at a login", () => {
  expect(isPasswordLength("x".repeat(128))).toBe(true);
  expect(isPasswordLength("x".repeat(129))).toBe(false);
});
