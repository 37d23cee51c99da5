import { expect, test } from "vitest";
import { nearestWord } from "./nearest-word.ts";

test("the word that was meant is found, and none where none is near", () => {
  const known = ["email", "email_verified", "username"];
  expect(nearestWord("emial", known)).toBe("email");
  expect(nearestWord("emailVerified", known)).toBe("email_verified");
  expect(nearestWord("usrname", known)).toBe("username");
  expect(nearestWord("organization", known)).toBeNull();
  expect(nearestWord("x", known)).toBeNull();
  expect(nearestWord("email", [])).toBeNull();
});

test("what all words have in common does not make them near", () => {
  expect(nearestWord("GRADIENT_X", ["GRADIENT_IP"], "GRADIENT_".length)).toBeNull();
});
