import { expect, test } from "vitest";
import { argon2Hasher, bounded } from "./password-hasher.ts";

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

test("a few are checked at once, some wait, and the rest are told to come again", async () => {
  let running = 0;
  let runningMax = 0;
  const open = Promise.withResolvers<void>();
  const slow = bounded(
    {
      hash: async (secret) => secret,
      verify: async () => {
        runningMax = Math.max(runningMax, ++running);
        await open.promise;
        running--;
        return true;
      },
    },
    { atOnceMax: 2, waitingMax: 3 },
  );
  const all = Array.from({ length: 8 }, () => slow.verify("stored", "secret").catch((error: Error) => error.message));
  open.resolve();

  const answers = await Promise.all(all);

  expect(answers.filter((answer) => answer === true)).toHaveLength(5);
  expect(answers.filter((answer) => String(answer).startsWith("Too many people sign in"))).toHaveLength(3);
  expect(runningMax).toBe(2);
  expect(await slow.verify("stored", "secret")).toBe(true);
});
