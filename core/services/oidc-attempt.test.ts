import { SignJWT } from "jose";
import { expect, test } from "vitest";
import { utf8 } from "../lib/bytes.ts";
import { MINUTE } from "../lib/clock.ts";
import { ATTEMPT_MS, openAttempt, sealAttempt } from "./oidc-attempt.ts";
import { verifySessionToken } from "./session-token.ts";

const SECRET = utf8("a token secret of the tests, long enough");
const ATTEMPT = { state: "s".repeat(43), nonce: "n".repeat(43), verifier: "v".repeat(43) };
const NOW = Date.UTC(2026, 0, 1);

test("what a browser keeps opens for ten minutes, with the same secret", async () => {
  const token = await sealAttempt(SECRET, ATTEMPT, NOW);
  expect(await openAttempt(SECRET, token, NOW)).toEqual(ATTEMPT);
  expect(await openAttempt(SECRET, token, NOW + ATTEMPT_MS - MINUTE)).toEqual(ATTEMPT);
  expect(await openAttempt(SECRET, token, NOW + ATTEMPT_MS)).toBeNull();
  expect(await openAttempt(utf8("another secret of the tests, as long as it"), token, NOW)).toBeNull();
  expect(await openAttempt(SECRET, `${token}a`, NOW)).toBeNull();
  expect(await openAttempt(SECRET, "a".repeat(10_000), NOW)).toBeNull();
});

test("what the same secret signs for something else does not open, and this is nothing else", async () => {
  const sign = async (claims: object, typ: string) =>
    await new SignJWT({ ...claims }).setProtectedHeader({ alg: "HS256", typ }).setExpirationTime("1h").sign(SECRET);
  const now = Date.now();
  expect(await openAttempt(SECRET, await sign(ATTEMPT, "JWT"), now)).toBeNull();
  expect(await openAttempt(SECRET, await sign(ATTEMPT, "oidc-csrf+jwt"), now)).toEqual(ATTEMPT);
  expect(await openAttempt(SECRET, await sign({ ...ATTEMPT, nonce: 1 }, "oidc-csrf+jwt"), now)).toBeNull();
  expect(await openAttempt(SECRET, await sign({ ...ATTEMPT, state: "" }, "oidc-csrf+jwt"), now)).toBeNull();
  expect(await verifySessionToken(SECRET, await sealAttempt(SECRET, ATTEMPT, NOW), NOW)).toBeNull();
});
