import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { formatNix, type NixValue } from "./nix-text.ts";

test("it is laid out for people", () => {
  const value = { users: { alice: { superuser: true, name: null } }, "a b": [1, -1, "x"], none: {}, list: [], if: 0 };
  expect(formatNix({ ...value, left: undefined })).toBe(`{
  users = {
    alice = {
      superuser = true;
      name = null;
    };
  };
  "a b" = [
    1
    (-1)
    "x"
  ];
  none = { };
  list = [ ];
  "if" = 0;
}`);
  expect(() => formatNix(1.5)).toThrow(RangeError);
});

test("Nix reads back whatever is written", async () => {
  await using folder = await withTemporaryFolder();
  // Nix keeps no NUL in a text.
  const text = fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.string({ unit: fc.constantFrom("$", "{", "}", "\\", '"', "'", "\n", "\r", "\t", "a") }),
  );
  const plain = text.map((one) => one.replaceAll("\0", ""));
  const { tree } = fc.letrec<{ tree: NixValue }>((tie) => ({
    tree: fc.oneof(
      { depthSize: "small" },
      plain,
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie("tree"), { maxLength: 4 }),
      fc.dictionary(plain, tie("tree"), { maxKeys: 4 }),
    ),
  }));
  const values = fc.sample(tree, { numRuns: 300, seed: 7 });
  const path = join(folder.path, "values.nix");
  await writeFile(path, formatNix(values));
  const { stdout } = await promisify(execFile)("nix-instantiate", ["--eval", "--strict", "--json", path], {
    env: { ...process.env, HOME: folder.path, NIX_REMOTE: `local?root=${folder.path}`, NIX_STATE_DIR: folder.path },
    maxBuffer: 64 * 1024 * 1024,
  });
  expect(JSON.parse(stdout)).toEqual(JSON.parse(JSON.stringify(values)));
});
