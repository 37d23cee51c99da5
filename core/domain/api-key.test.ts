import { expect, test } from "vitest";
import { systemRandom } from "../lib/ids.ts";
import { apiKeySecret, formatApiKey, generateApiKeySecret } from "./api-key.ts";

test("a key is its prefix and 64 letters and digits, each as likely as the other", () => {
  const secrets = Array.from({ length: 300 }, () => generateApiKeySecret(systemRandom));
  for (const secret of secrets) expect(apiKeySecret(formatApiKey(secret))).toBe(secret);
  expect(new Set(secrets).size).toBe(300);
  const counts = new Map<string, number>();
  for (const character of secrets.join("")) counts.set(character, (counts.get(character) ?? 0) + 1);
  // 19 200 characters of 62 kinds: 310 each, with a standard deviation of 17.
  expect(counts.size).toBe(62);
  expect(Math.min(...counts.values())).toBeGreaterThan(200);
  expect(Math.max(...counts.values())).toBeLessThan(420);
});

test("both prefixes are read, and nothing else is a key", () => {
  const secret = "a".repeat(64);
  expect(apiKeySecret(`grd_${secret}`)).toBe(secret);
  for (const text of [
    secret,
    `GRAD${secret}a`,
    `GRAD${secret.slice(1)}`,
    `grad${secret}`,
    `GRAD${secret}\n`,
    ` GRAD${secret}`,
  ]) {
    expect([text, apiKeySecret(text)]).toEqual([text, null]);
  }
});
