import { expect, test } from "vitest";
import { readSourceFiles } from "./source-files.ts";
import { DATABASE_TESTS, NIX_TESTS, testsOf } from "./test-groups.ts";

test("a test belongs to a group when its imports lead to what the group is about, however far", () => {
  const files = new Map([
    ["test/a.test.ts", 'import { far } from "./far.ts";'],
    ["test/far.ts", 'import { withNix } from "#test/support/nix.ts";'],
    ["test/slow.test.ts", 'import { withNix } from "./support/nix.ts";'],
    ["test/other.test.ts", 'import { join } from "node:path";'],
    ["test/support/nix.ts", "export const withNix = 1;"],
  ]);
  expect(testsOf({ support: "test/support/nix.ts", except: /slow/ }, files)).toEqual(["test/a.test.ts"]);
});

test("the groups find the tests of this repository", () => {
  const files = readSourceFiles();
  expect(testsOf(NIX_TESTS, files)).toContain("test/e2e/main-job.test.ts");
  expect(testsOf(DATABASE_TESTS, files)).toContain("test/handlers/builds.test.ts");
});
