import { expect, test } from "vitest";
import { lockedInputs } from "./locked-inputs.ts";

function lockOf(inputs: unknown, nodes: Record<string, unknown>): string {
  return JSON.stringify({ version: 7, root: "root", nodes: { root: { inputs }, ...nodes } });
}

test("the inputs that a flake names have their revisions, also where they follow others", () => {
  const lock = lockOf(
    { nixpkgs: "nixpkgs_2", tools: "tools", same: ["tools", "nixpkgs"] },
    {
      nixpkgs_2: {
        locked: { type: "github", owner: "NixOS", repo: "nixpkgs", rev: "abc", lastModified: 1_700_000_000 },
      },
      tools: {
        inputs: { nixpkgs: "other" },
        locked: { type: "git", url: "https://user:secret@example.com/tools.git", rev: "def", ref: "main" },
      },
      other: { locked: { type: "gitlab", owner: "a", repo: "b", host: "git.example.com" } },
    },
  );
  expect(lockedInputs(lock)).toEqual([
    { name: "nixpkgs", source: "github:NixOS/nixpkgs", revision: "abc", last_modified: 1_700_000_000 },
    {
      name: "tools",
      source: expect.stringMatching(/^git\+https:.*example\.com\/tools\.git$/),
      revision: "def",
      last_modified: null,
    },
    { name: "same", source: "gitlab:a/b?host=git.example.com", revision: null, last_modified: null },
  ]);
  expect(JSON.stringify(lockedInputs(lock))).not.toContain("secret");
});

test("a flake without a lock has no inputs, and of a broken lock nothing is said", () => {
  expect(lockedInputs(null)).toEqual([]);
  for (const text of ["", "[]", "{}", "nonsense", '{"root":1,"nodes":{}}']) expect(lockedInputs(text), text).toBeNull();
});

test("locks that follow themselves or hold nonsense come to an end", () => {
  const lock = lockOf(
    { a: ["a"], b: [], c: ["nowhere", "else"], d: "missing", e: "odd" },
    { odd: { locked: { type: 7, rev: 7, lastModified: 1e300 } } },
  );
  expect(lockedInputs(lock)).toEqual([{ name: "e", source: "unknown", revision: null, last_modified: null }]);
});
