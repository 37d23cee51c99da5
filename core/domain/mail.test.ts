import fc from "fast-check";
import { expect, test } from "vitest";
import { DAY, HOUR, SECOND } from "../lib/clock.ts";
import { type MailKind, mailRetryMs, writeMail } from "./mail.ts";

const KINDS: readonly MailKind[] = [
  "verify_address",
  "reset_password",
  "no_password",
  "password_changed",
  "address_asked",
  "address_changed",
];
const facts = { username: "ada", frontendUrl: "https://ci.example.com", link: "https://ci.example.com/x?a=1&b=2" };

test("a mail says the same as text and as HTML, and its link can be followed in both", () => {
  for (const kind of ["verify_address", "reset_password"] as const) {
    const { subject, text, html } = writeMail(kind, facts);
    expect(subject).toMatch(/ - Gradient$/);
    expect(text.split("\n")).toContain(facts.link);
    expect(html).toContain('<a href="https://ci.example.com/x?a=1&amp;b=2">');
    expect(text).toContain("Hello ada,");
  }
  expect(writeMail("verify_address", facts).subject).toBe("Verify your email address - Gradient");
});

test("nothing that a user is called becomes HTML or a second header", () => {
  fc.assert(
    fc.property(fc.constantFrom(...KINDS), fc.string({ unit: "binary" }), (kind, username) => {
      const { subject, html } = writeMail(kind, { ...facts, username: `<b>"${username}'&` });
      expect(subject).not.toMatch(/[\r\n]/);
      expect(
        html
          .slice("<!doctype html>".length)
          .match(/<[^>]*>/g)
          ?.join(""),
      ).toMatch(/^<html><body>(<p>(<a href="[^"<>]*"><\/a>)?<\/p>)+<\/body><\/html>$/);
    }),
  );
});

test("a mail is tried ever more seldom, for a day", () => {
  const pauses: number[] = [];
  let age = 0;
  for (let attempt = 1; ; attempt++) {
    const pause = mailRetryMs(attempt, age);
    if (pause === null) break;
    pauses.push(pause);
    age += pause;
  }
  expect(pauses.slice(0, 3)).toEqual([10 * SECOND, 20 * SECOND, 40 * SECOND]);
  expect(Math.max(...pauses)).toBe(HOUR);
  expect(age).toBeGreaterThan(DAY - 2 * HOUR);
  expect(age).toBeLessThan(DAY);
});
