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

test("derivations say how their outputs get their paths, and what no worker can build is named", async () => {
  const made = async (hashAlgorithm: string, hash = "") =>
    await parse({ outputs: new Map([["out", { path: "", hashAlgorithm, hash }]]) });
  expect(await made("")).toMatchObject({ addressing: "deferred", unsupported: null });
  expect(await made("r:sha256")).toMatchObject({ addressing: "floating", unsupported: null });
  expect(await made("sha512")).toMatchObject({ addressing: "floating", unsupported: null });
  expect((await made("text:sha256")).unsupported).toMatch(/content-addressed as text:sha256/);
  expect((await made("r:sha256", "impure")).unsupported).toMatch(/impure/);
});

test("only of outputs without paths is it believed under which hash caches know them", async () => {
  const realisationHash = "a".repeat(64);
  const told = async (node: Awaited<ReturnType<typeof parse>>) => {
    const drvPath = await derivationPath("a", node.aterm, []);
    return (await parseNode({ drvPath, aterm: node.aterm, pruned: false, realisationHash })).realisationHash;
  };
  const outputs = new Map([["out", { path: "", hashAlgorithm: "r:sha256", hash: "" }]]);
  expect(await told(await parse({ outputs }))).toBe(realisationHash);
  expect(await told(await parse({}))).toBeNull();
});
