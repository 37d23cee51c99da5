import { expect, test } from "vitest";
import { inputPatternProblem, matchesInput } from "./input-pattern.ts";

test("names and patterns are told from what is neither", () => {
  for (const text of ["nixpkgs", "_x", "flake-utils", "nix*", "*", "n?x", "[a-c]*", "lib_[12]"]) {
    expect(inputPatternProblem(text), text).toBeNull();
  }
  for (const text of ["", "1nix", "-a", "a.b", "a b", "[", "a]", "[]", "[z-a]", "a/b", "[a[b]]", "x".repeat(129)]) {
    expect(inputPatternProblem(text), text).not.toBeNull();
  }
});

test("a pattern fits whole names", () => {
  const names = ["nixpkgs", "nixpkgs-stable", "utils", "lib-1", "lib-2"];
  const matching = (pattern: string) => names.filter((name) => matchesInput(pattern, name));

  expect(matching("nixpkgs")).toEqual(["nixpkgs"]);
  expect(matching("nixpkgs*")).toEqual(["nixpkgs", "nixpkgs-stable"]);
  expect(matching("lib-?")).toEqual(["lib-1", "lib-2"]);
  expect(matching("lib-[1]")).toEqual(["lib-1"]);
  expect(matching("*")).toEqual(names);
});
