import { expect, test } from "vitest";
import { type Derivation, printDerivation } from "#core/nix/derivation.ts";
import { derivationPath } from "#core/nix/store-path.ts";
import { parseNode } from "#core/services/transitions/parse-nodes.ts";
import { outputPathOf } from "./nodes.ts";

async function parse(changes: Partial<Derivation>) {
  const bytes = printDerivation({
    outputs: new Map([["out", { path: `/nix/store/${outputPathOf("a")}`, hashAlgorithm: "", hash: "" }]]),
    inputDerivations: new Map(),
    inputSources: [],
    system: "x86_64-linux",
    builder: "/bin/sh",
    args: [],
    env: new Map([["name", "a"]]),
    ...changes,
  });
  return await parseNode({ drvPath: await derivationPath("a", bytes, []), aterm: bytes, pruned: false });
}

test("a derivation is read from its own bytes, and its builtin builder fits every worker", async () => {
  expect(await parse({})).toMatchObject({ unsupported: null, row: { name: "a", system: "x86_64-linux" } });
  expect(await parse({ builder: "builtin:fetchurl" })).toMatchObject({ row: { system: "builtin" } });
});

test("a path that does not follow from the bytes, and words that no row can hold, are refused", async () => {
  const { aterm } = await parse({});
  const other = await derivationPath("a", (await parse({ builder: "/bin/ksh" })).aterm, []);
  await expect(parseNode({ drvPath: other, aterm, pruned: false })).rejects.toMatchObject({ code: "validation" });
  await expect(parse({ system: "x86\0" })).rejects.toMatchObject({ code: "validation" });
  await expect(parse({ env: new Map([["name", "a\0"]]) })).rejects.toMatchObject({ code: "validation" });
});

test("what no worker can build is named", async () => {
  const floating = new Map([["out", { path: "", hashAlgorithm: "r:sha256", hash: "" }]]);
  expect((await parse({ outputs: floating })).unsupported).toMatch(/content-addressed/);
});
