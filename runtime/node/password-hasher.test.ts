import { expect, test } from "vitest";
import { argon2Hasher } from "./password-hasher.ts";

test("a password verifies against its own hash only", async () => {
  const stored = await argon2Hasher.hash("correct horse");

  expect(stored).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  expect(await argon2Hasher.verify(stored, "correct horse")).toBe(true);
  expect(await argon2Hasher.verify(stored, "correct horsf")).toBe(false);
});

test.each(["", "plain", "$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA", "$2b$10$abc"])(
  "what is no hash of ours (%j) matches nothing",
  async (stored) => {
    expect(await argon2Hasher.verify(stored, "plain")).toBe(false);
  },
);
