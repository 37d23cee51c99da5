import fc from "fast-check";
import { expect, test } from "vitest";
import { isDisplayName, isUsername } from "./names.ts";
import {
  displayNameFrom,
  isSparse,
  nearestUsername,
  numberedUsername,
  OidcClaimsError,
  profileOf,
  withUserInfo,
} from "./oidc-claims.ts";

const RIGHT = { iss: "https://auth.example.com", sub: "1" };

test("whatever a provider calls somebody, a name of ours comes of it, at the latest with a number", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "grapheme", maxLength: 80 }),
      fc.integer({ min: 2, max: 2_000_000 }),
      (word, number) => {
        const nearest = nearestUsername(word);
        expect(isUsername(nearest) || nearest === "user").toBe(true);
        expect(isUsername(numberedUsername(nearest, number))).toBe(true);
        if (isUsername(word)) expect(nearest).toBe(word);
      },
    ),
  );
});

test("whatever a provider calls somebody, what is shown is a display name or nothing", () => {
  const anyText = fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.string({ unit: "binary", minLength: 60, maxLength: 300 }),
  );
  fc.assert(
    fc.property(anyText, (words) => {
      const name = displayNameFrom(words);
      expect(name === null || isDisplayName(name)).toBe(true);
      if (isDisplayName(words)) expect(name).toBe(words);
    }),
  );
  expect(displayNameFrom("Lovelace, Ada (Countess)")).toBe("Lovelace Ada Countess");
  expect(displayNameFrom("é".repeat(80))).toBe("é".repeat(50));
  expect(displayNameFrom("<>")).toBeNull();
});

test("claims of any shape give a profile within its limits, or say which claim is wrong", () => {
  const value = fc.oneof(fc.jsonValue(), fc.string({ unit: "binary" }), fc.array(fc.string()));
  const names = ["iss", "sub", "preferred_username", "name", "email", "email_verified", "groups", "_claim_names"];
  const claims = fc.dictionary(fc.constantFrom(...names), value);
  fc.assert(
    fc.property(claims, fc.boolean(), (some, right) => {
      try {
        const { subject, email, groups } = profileOf(right ? { ...some, ...RIGHT } : some);
        expect(subject).toMatch(/^[\x20-\x7e]{1,255}$/);
        expect(email?.address ?? "a@b").toContain("@");
        for (const group of groups ?? []) expect(group).toEqual(expect.not.stringContaining("\0"));
      } catch (error) {
        expect(error).toBeInstanceOf(OidcClaimsError);
        expect((error as Error).message).toMatch(/^the claim (?:iss|sub|groups) /);
      }
    }),
  );
});

test("only a provider that says so has verified an address", () => {
  const of = (email_verified: unknown) =>
    profileOf({ ...RIGHT, email: "a@example.org", email_verified }).email?.verified;
  expect([true, "true"].map(of)).toEqual([true, true]);
  expect([false, "false", undefined, null, 1, "yes", {}].map(of)).toEqual(Array(7).fill(false));
});

test("groups that are elsewhere are not the same as no groups", () => {
  expect(profileOf(RIGHT).groups).toEqual([]);
  expect(profileOf({ ...RIGHT, groups: ["a"], _claim_names: { groups: "x" } }).groups).toEqual(["a"]);
  expect(profileOf({ ...RIGHT, _claim_names: { groups: "x" } }).groups).toBeNull();
  expect(profileOf({ ...RIGHT, _claim_names: { address: "x" } }).groups).toEqual([]);
  expect(() => profileOf({ ...RIGHT, groups: Array(10_001).fill("g") })).toThrow(/more than 10000 entries/);
});

test("the token's word counts before the userinfo endpoint's, and an address is verified where it stands", () => {
  expect(withUserInfo({ sub: "1", name: "A" }, { sub: "1", name: "B", groups: ["g"] })).toMatchObject({
    name: "A",
    groups: ["g"],
  });
  const told = { email: "b@example.org", email_verified: true };
  expect(withUserInfo({ email: "a@example.org" }, told)).toEqual({ email: "a@example.org" });
  expect(withUserInfo({}, told)).toEqual(told);
  expect(withUserInfo({ email: "b@example.org" }, told)).toEqual(told);
  const whole = { preferred_username: "a", name: "A", email: "a@example.org", email_verified: false, groups: [] };
  expect([isSparse(whole), isSparse({ ...whole, groups: undefined })]).toEqual([false, true]);
});
