import { expect, test } from "vitest";
import { randomText } from "./random-text.ts";

test("every character is as likely as the others: bytes beyond the last whole alphabet are not used", () => {
  let next = 0;
  const counting = (bytes: Uint8Array<ArrayBuffer>) => bytes.map(() => next++ % 256);

  const text = randomText(counting, "abc", 255 * 4);

  const counts = new Map<string, number>();
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1);
  expect([...counts.values()]).toEqual([340, 340, 340]);
});
