import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { derivationReferences, printDerivation } from "#core/nix/derivation.ts";
import { derivationPath, type StorePath } from "#core/nix/store-path.ts";
import { DerivationFiles } from "./derivation-files.ts";
import { DerivationWalk, type WalkedNode } from "./walk.ts";
import { walkAttributes } from "./walk-attributes.ts";
import type { KnownQuestion } from "./walk-node.ts";

const MEBIBYTE = 1024 * 1024;
let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "gradient-walk-"));
  await mkdir(join(root, "nix/store"), { recursive: true });
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

type Needs = readonly (readonly [StorePath, ...string[]])[];

/** Writes the `.drv` file of a derivation with the outputs `out` and `dev`. */
async function write(name: string, needs: Needs = [], env: Record<string, string> = {}): Promise<StorePath> {
  const output = (suffix: string) => ({
    path: `/nix/store/${"0".repeat(32)}-${name}${suffix}`,
    hashAlgorithm: "",
    hash: "",
  });
  const derivation = {
    outputs: new Map([
      ["dev", output("-dev")],
      ["out", output("")],
    ]),
    inputDerivations: new Map(needs.map(([path, ...names]) => [path, names])),
    inputSources: [],
    system: "x86_64-linux",
    builder: "/bin/sh",
    args: [],
    env: new Map(Object.entries(env)),
  };
  const bytes = printDerivation(derivation);
  const path = await derivationPath(name, bytes, derivationReferences(derivation));
  await writeFile(root + path, bytes);
  return path;
}

interface WalkSetup {
  readonly known?: (question: KnownQuestion) => boolean;
  readonly derivationsMax?: number;
  readonly bytesMax?: number;
}

function startWalk({ known = () => false, derivationsMax = 1_000_000, bytesMax = MEBIBYTE }: WalkSetup = {}) {
  const calls: KnownQuestion[][] = [];
  const walk = new DerivationWalk({
    files: new DerivationFiles(root, bytesMax),
    known: async (questions) => {
      calls.push([...questions]);
      return questions.map(known);
    },
    derivationsMax,
    check: () => {},
  });
  const give = async (...roots: StorePath[]): Promise<WalkedNode[]> => {
    const nodes: WalkedNode[] = [];
    for await (const node of walk.walk(roots)) nodes.push(node);
    return nodes;
  };
  return { walk, give, calls };
}

test("a chain of 20 000 derivations is walked without a deep stack, in few questions", async () => {
  let top = await write("link-0");
  for (let i = 1; i < 20_000; i++) top = await write(`link-${i}`, [[top, "out"]]);
  const { give, calls } = startWalk();

  const nodes = await give(top);
  expect(nodes.map(({ drvPath }) => Number(drvPath.slice(49, -4)))).toEqual(
    Array.from({ length: 20_000 }, (_, i) => i),
  );
  expect(calls.every((questions) => questions.length <= 1_000)).toBe(true);
  expect(calls.length).toBeLessThan(40);
});

test("a known root is asked for alone, and nothing else is read", async () => {
  const missing = `/nix/store/${"1".repeat(32)}-missing.drv` as StorePath;
  const top = await write("top-of-missing", [[missing, "out"]]);
  const { give, calls } = startWalk({ known: () => true });

  const nodes = await give(top);
  expect(nodes.map(({ drvPath, pruned }) => [drvPath, pruned])).toEqual([[top, true]]);
  expect(calls.map((questions) => questions.map(({ outputs }) => outputs.map(({ name }) => name)))).toEqual([
    [["dev", "out"]],
  ]);
});

test("a further output that is not there opens what was pruned, and it comes again after what it needs", async () => {
  const bottom = await write("bottom");
  const middle = await write("middle", [[bottom, "out"]]);
  const first = await write("first", [[middle, "out"]]);
  const second = await write("second", [[middle, "dev"]]);
  const known = ({ drvPath, outputs }: KnownQuestion) =>
    drvPath === middle && outputs.every(({ name }) => name === "out");
  const { give } = startWalk({ known });

  const shown = (nodes: WalkedNode[]) => nodes.map(({ drvPath, pruned }) => [drvPath, pruned]);
  expect(shown(await give(first))).toEqual([
    [middle, true],
    [first, false],
  ]);
  expect(shown(await give(second))).toEqual([
    [bottom, false],
    [middle, false],
    [second, false],
  ]);
  expect(shown(await give(first, second))).toEqual([]);
});

test("what is looked at ahead and turns out to lie below something known is not given", async () => {
  const leaf = await write("ahead-leaf");
  const known = await write("ahead-known", [[leaf, "out"]]);
  const top = await write("ahead-top", [[known, "out"]]);
  const { give } = startWalk({ known: ({ drvPath }) => drvPath === known });

  expect((await give(top)).map(({ drvPath }) => drvPath)).toEqual([known, top]);
});

test("a derivation that is missing, changed or too large is an error with its path", async () => {
  const missing = `/nix/store/${"2".repeat(32)}-gone.drv` as StorePath;
  const needsMissing = await write("needs-missing", [[missing, "out"]]);
  await expect(startWalk().give(needsMissing)).rejects.toThrow(`${missing} cannot be read: ENOENT`);

  const changed = await write("changed", [], { value: "before" });
  await writeFile(root + changed, printable("after"));
  await expect(startWalk().give(changed)).rejects.toThrow(`${changed} cannot be read`);

  const large = await write("large", [], { value: "x".repeat(5_000) });
  await expect(startWalk({ bytesMax: 4_000 }).give(large)).rejects.toThrow("it is larger than 4000 bytes");
});

test("more derivations than allowed end the walk", async () => {
  const bottom = await write("limit-bottom");
  const top = await write("limit-top", [[bottom, "out"]]);

  expect(await startWalk({ derivationsMax: 2 }).give(top)).toHaveLength(2);
  await expect(startWalk({ derivationsMax: 1 }).give(top)).rejects.toThrow("more than 1 derivations");
});

function printable(value: string): Uint8Array {
  const output = { path: `/nix/store/${"0".repeat(32)}-changed`, hashAlgorithm: "", hash: "" };
  return printDerivation({
    outputs: new Map([["out", output]]),
    inputDerivations: new Map(),
    inputSources: [],
    system: "x86_64-linux",
    builder: "/bin/sh",
    args: [],
    env: new Map([["value", value]]),
  });
}

/** As Nix writes one that needs what `made.drv` builds a derivation for. */
async function writeDynamic(name: string): Promise<StorePath> {
  const bytes = utf8(
    `DrvWithVersion("xp-dyn-drv",[("out","","","")],[("/nix/store/${"1".repeat(32)}-made.drv.drv",([],[("out",["out"])` +
      `]))],[],"x86_64-linux","/bin/sh",[],[("name","${name}"),("out","")])`,
  );
  const path = await derivationPath(name, bytes, []);
  await writeFile(root + path, bytes);
  return path;
}

test("what needs a dynamic derivation fails alone, and the rest is given as if it had not been asked for", async () => {
  const shared = await write("shared");
  const dynamic = await writeDynamic("dynamic");
  const middle = await write("middle", [
    [dynamic, "out"],
    [shared, "out"],
  ]);
  const roots = {
    bad: await write("bad", [[middle, "out"]]),
    alone: dynamic,
    good: await write("good", [[shared, "out"]]),
    kept: await write("kept", [[middle, "dev"]]),
  };
  const error = expect.stringMatching(/-dynamic\.drv needs .* dynamic derivations are not built here$/);
  // With a root that is dynamic itself the walk stops before its first question, else at a later one.
  for (const names of [["bad", "alone", "good", "kept"] as const, ["bad", "good", "kept"] as const]) {
    const { walk } = startWalk({ known: ({ drvPath, outputs }) => drvPath === middle && outputs[0]?.name === "dev" });
    const given: string[] = [];
    const found = names.map((name) => ({ attribute: [name], drvPath: roots[name] }));
    const outcome = await walkAttributes(walk, found, async ({ drvPath, pruned }) => {
      given.push(`${drvPath.slice(44, -4)}${pruned ? " (pruned)" : ""}`);
    });
    expect(outcome.errors).toEqual(names.slice(0, -2).map((name) => ({ attribute: [name], error })));
    expect(outcome.found.map(({ attribute }) => attribute[0])).toEqual(["good", "kept"]);
    expect(given).toEqual(["shared", "good", "middle (pruned)", "kept"]);
  }
});

test("a dynamic derivation below what is there already is in nobody's way", async () => {
  const middle = await write("middle-there", [[await writeDynamic("dynamic-below"), "out"]]);
  const top = await write("top", [[middle, "out"]]);
  const { walk } = startWalk({ known: ({ drvPath }) => drvPath === middle });
  const given: string[] = [];
  const outcome = await walkAttributes(walk, [{ attribute: ["top"], drvPath: top }], async ({ drvPath, pruned }) => {
    given.push(`${drvPath.slice(44, -4)}${pruned ? " (pruned)" : ""}`);
  });
  expect(outcome.errors).toEqual([]);
  expect(given).toEqual(["middle-there (pruned)", "top"]);
});
