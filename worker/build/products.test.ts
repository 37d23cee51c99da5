import { mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { StorePath } from "#core/nix/store-path.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { parseProductLines } from "./product-lines.ts";
import { readProducts } from "./products.ts";

const OUT = `/nix/store/${"a".repeat(32)}-thing-1.0` as StorePath;
const DOC = `/nix/store/${"b".repeat(32)}-thing-1.0-doc` as StorePath;
const OTHER = `/nix/store/${"c".repeat(32)}-other`;
const OUTPUTS = [
  { name: "out", path: OUT },
  { name: "doc", path: DOC },
];

/** A note with this word ends the attempt. */
const ABORTING = "aborting";

/** A store with these files below the outputs; a file that begins with `->` is a link. */
async function read(files: Readonly<Record<string, string>>, abort = new AbortController()) {
  await using folder = await withTemporaryFolder();
  for (const path of [OUT, DOC]) await mkdir(join(folder.path, path), { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    const real = join(folder.path, path);
    await mkdir(dirname(real), { recursive: true });
    if (content.startsWith("->")) await symlink(content.slice(2), real);
    else await writeFile(real, content);
  }
  const notes: string[] = [];
  const note = (text: string) => {
    notes.push(text);
    if (text.includes(ABORTING)) abort.abort(new Error(ABORTING));
  };
  const products = await readProducts(OUTPUTS, { storeRoot: folder.path, note, signal: abort.signal });
  return { products, notes };
}

/** How often others got a turn while `work` ran. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let over = false;
  const count = () => {
    turns += 1;
    if (!over) setImmediate(count);
  };
  setImmediate(count);
  await work();
  over = true;
  return turns;
}

test("files, folders and the output itself are listed with their sizes, links resolved", async () => {
  const { products, notes } = await read({
    [`${OUT}/nix-support/hydra-build-products`]: `
      file iso ${OUT}/iso/system.iso
      doc  manual "${OUT}/with space/manual.html" index.html
      report coverage ${OUT}/latest
      doc tree ${DOC}/tree
      nix-build out ${OUT}`,
    [`${OUT}/iso/system.iso`]: "12345",
    [`${OUT}/with space/manual.html`]: "123",
    [`${OUT}/latest`]: `->${DOC}/here`,
    [`${DOC}/here`]: "->./tree/../tree/page",
    [`${DOC}/tree/page`]: "1234567",
  });

  const common = { output: "out" };
  expect(notes).toEqual([]);
  expect(products).toEqual([
    { ...common, type: "file", subtype: "iso", name: "system.iso", path: `${OUT}/iso/system.iso`, size: 5 },
    { ...common, type: "doc", subtype: "manual", name: "manual.html", path: `${OUT}/with space/manual.html`, size: 3 },
    { ...common, type: "report", subtype: "coverage", name: "latest", path: `${DOC}/tree/page`, size: 7 },
    { ...common, type: "doc", subtype: "tree", name: "tree", path: `${DOC}/tree`, size: null },
    { ...common, type: "nix-build", subtype: "out", name: "thing-1.0", path: OUT, size: null },
  ]);
});

test.each([
  ["a file of the machine", `file secret /etc/passwd`, /not of the form/],
  ["a path of the store that is no output", `file other ${OTHER}/x`, /does not lie in an output/],
  ["a link to a file of the machine", `file secret ${OUT}/passwd`, /link leaves the store/],
  ["a link to a path of the store that is no output", `file other ${OUT}/other`, /does not lie in an output/],
  ["a way up", `file other ${OUT}/../x`, /not of the form/],
  ["a link up", `file other ${OUT}/up/etc/passwd`, /link leaves the store|names no store path/],
  ["links in a ring", `file ring ${OUT}/ring`, /links lead nowhere/],
  ["a file that is not there", `file gone ${OUT}/gone`, /is not there/],
  ["a file below a file", `file below ${OUT}/file/x`, /is not there/],
])("%s is not listed, and the log says why", async (_, line, why) => {
  const { products, notes } = await read({
    [`${OUT}/nix-support/hydra-build-products`]: line,
    [`${OUT}/passwd`]: "->/etc/passwd",
    [`${OUT}/other`]: `->${OTHER}/x`,
    [`${OTHER}/x`]: "x",
    [`${OUT}/up`]: "->../../..",
    [`${OUT}/ring`]: "->ring",
    [`${OUT}/file`]: "x",
  });

  expect(products).toEqual([]);
  expect(notes).toEqual([expect.stringMatching(why)]);
});

test("a list that is a link to a file of the machine is never read, and one that is too long neither", async () => {
  const list = `${OUT}/nix-support/hydra-build-products`;
  expect(await read({ [list]: "->/etc/passwd" })).toMatchObject({
    products: [],
    notes: [expect.stringMatching(/link leaves the store/)],
  });
  const long = `file x ${OUT}/x\n`.repeat(2_000);
  expect(await read({ [list]: long, [`${OUT}/x`]: "" })).toMatchObject({
    products: [],
    notes: [expect.stringMatching(/more than 65536/)],
  });
});

test("an output without a list, or that is no folder, offers nothing", async () => {
  expect(await read({})).toEqual({ products: [], notes: [] });
  expect(await read({ [`${OUT}/nix-support`]: "a file" })).toEqual({ products: [], notes: [] });
});

test("more products than a result may name are cut, and the log says so", async () => {
  const { products, notes } = await read({
    [`${OUT}/nix-support/hydra-build-products`]: `file x ${OUT}/x\n`.repeat(300),
    [`${OUT}/x`]: "",
  });
  expect(products).toHaveLength(256);
  expect(notes).toEqual([expect.stringMatching(/more than 256/)]);
});

const LIST = `${OUT}/nix-support/hydra-build-products`;
/** Fifty looks: one at the output and one at each name below it. */
const DEEP = `${OUT}/${"d/".repeat(48)}x`;

test("a build whose products take too many looks has those found until then, and the log says so once", async () => {
  const { products, notes } = await read({
    // The notes on single products are used up by then.
    [LIST]: "no product\n".repeat(30) + `file x ${DEEP}\n`.repeat(250),
    [DEEP]: "",
    [`${DOC}/nix-support/hydra-build-products`]: `file y ${DOC}/y`,
    [`${DOC}/y`]: "",
  });
  // Three looks of 10,000 found the list.
  expect(products).toHaveLength(199);
  expect(notes).toHaveLength(21);
  expect(notes.at(-1)).toMatch(/not all listed: 10000 looks/);
});

test("links that lead through many folders again and again use up the looks of the build, listed or not", async () => {
  const deep = `${OUT}/${"d/".repeat(400)}`;
  const { products, notes } = await read({
    [LIST]: [...Array(20).fill(`file x ${deep}link`), `file y ${OUT}/y`].join("\n"),
    [`${deep}link`]: `->${deep}link`,
    [`${OUT}/y`]: "",
  });
  expect(products).toEqual([]);
  expect(notes).toEqual([expect.stringMatching(/not all listed/)]);
});

test("a path that is too long, or becomes so by a link, is refused before anything looks for it", async () => {
  const long = "d/".repeat(500);
  const { products, notes } = await read({
    [LIST]: `file x ${OUT}/${long}x\nfile x ${OUT}/link\nfile y ${OUT}/y`,
    [`${OUT}/link`]: `->${long}x`,
    [`${OUT}/y`]: "",
  });
  const refused = expect.stringMatching(/longer than 1024 characters/);
  expect(products).toMatchObject([{ path: `${OUT}/y` }]);
  expect(notes).toEqual([refused, refused]);
});

test("others get a turn after 64 looks at the latest", async () => {
  await using folder = await withTemporaryFolder();
  for (const path of [LIST, DEEP]) await mkdir(dirname(join(folder.path, path)), { recursive: true });
  await writeFile(join(folder.path, LIST), `file x ${DEEP}\n`.repeat(190));
  await writeFile(join(folder.path, DEEP), "");
  const context = { storeRoot: folder.path, note: () => {}, signal: new AbortController().signal };
  const turns = await turnsDuring(async () => expect(await readProducts(OUTPUTS, context)).toHaveLength(190));
  expect(turns).toBeGreaterThanOrEqual(Math.floor((190 * 50) / 64));
});

test("the end of the attempt is the end of the reading", async () => {
  const files = { [LIST]: `${ABORTING}\nfile x ${OUT}/x`, [`${OUT}/x`]: "" };
  await expect(read(files)).rejects.toThrow(ABORTING);
  const ended = new AbortController();
  ended.abort(new Error("it is over"));
  await expect(read(files, ended)).rejects.toThrow("it is over");
});

test("whatever a list holds, a product is below a store path and has plain names", () => {
  const word = fc.oneof(fc.string(), fc.constantFrom("file", OUT, `${OUT}/a`, '"', "..", "/", "\u0000", " "));
  fc.assert(
    fc.property(fc.array(word), (words) => {
      for (const { storePath, below } of parseProductLines(words.join(" ")).products) {
        expect(storePath.startsWith("/nix/store/")).toBe(true);
        for (const name of below) expect(/^\.{0,2}$|[/\p{Cc}]/u.test(name)).toBe(false);
      }
    }),
    { numRuns: 300 },
  );
});
