import { expect, test } from "vitest";
import { isAddressableSlug, isSlug, requireDisplayName, requireEmail, requireSlug, requireUsername } from "./names.ts";

function accepts(check: (text: string) => unknown, text: string): boolean {
  try {
    check(text);
    return true;
  } catch {
    return false;
  }
}

test("names in addresses are lower-case words joined by dashes", () => {
  for (const name of ["a", "nixos", "my-org", "a--b", "0", "x".repeat(100)])
    expect([name, isSlug(name)]).toEqual([name, true]);
  for (const name of ["", "-a", "a-", "A", "a_b", "a b", "ä", "a\n", "a/b", "x".repeat(101)]) {
    expect([name, isSlug(name)]).toEqual([name, false]);
  }
  expect(() => requireSlug("A", "name")).toThrow(/^name must be 1 to 100 lower-case letters/);
});

test("an organization cannot be called like a part of the API beside it", () => {
  expect(["public", "available", "publics"].map(isAddressableSlug)).toEqual([false, false, true]);
});

test("user names are 3 to 50 letters and digits with single separators inside, and no reserved word", () => {
  for (const name of ["abc", "A-b_c", "x".repeat(50)])
    expect([name, accepts(requireUsername, name)]).toEqual([name, true]);
  for (const name of ["ab", "_ab", "ab-", "a-_b", "a b", "Admin", "NULL", "x".repeat(51), "abc\n"]) {
    expect([name, accepts(requireUsername, name)]).toEqual([name, false]);
  }
});

test("display names are words with single spaces, at most 100 bytes", () => {
  const check = (text: string) => requireDisplayName(text, "name");
  for (const name of ["Ada L.", "O'Neil", "名前", "a_b-c", "é".repeat(50)])
    expect([name, accepts(check, name)]).toEqual([name, true]);
  for (const name of ["", " a", "a ", "a  b", "a\tb", "<b>", "é".repeat(51)]) {
    expect([name, accepts(check, name)]).toEqual([name, false]);
  }
});

test("an e-mail address has a name and a host", () => {
  for (const email of ["a@b", "first.last+tag@mail.example.com"])
    expect([email, accepts(requireEmail, email)]).toEqual([email, true]);
  for (const email of ["a", "@b", "a@", "a@b@c", "a b@c", "a..b@c", "a@-b", "a@b.", "a@b\n", `${"a".repeat(254)}@b`]) {
    expect([email, accepts(requireEmail, email)]).toEqual([email, false]);
  }
});

test("long hostile input is refused without trying every way to read it", () => {
  const long = `${"a".repeat(100_000)}!`;
  for (const check of [requireUsername, requireEmail]) expect(accepts(check, long)).toBe(false);
  expect(isSlug(long)).toBe(false);
  expect(accepts((text) => requireDisplayName(text, "name"), "a ".repeat(50_000))).toBe(false);
  expect(accepts(requireEmail, `a@${"a-".repeat(126)}!`)).toBe(false);
});
