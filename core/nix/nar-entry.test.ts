import { expect, test } from "vitest";
import { fromUtf8, utf8 } from "../lib/bytes.ts";
import type { NarEvent } from "./nar.ts";
import { narEntry } from "./nar-entry.ts";
import { readNar } from "./nar-reader.ts";
import { writeNar } from "./nar-writer.ts";

type Tree = string | { readonly [name: string]: Tree };

function* walk(tree: Tree, name = ""): Generator<NarEvent> {
  if (typeof tree === "string") {
    const bytes = utf8(tree);
    yield { kind: "file", name, executable: false, size: bytes.length, offset: 0 };
    if (bytes.length > 0) yield { kind: "content", bytes };
    return;
  }
  yield { kind: "directory", name };
  for (const child of Object.keys(tree).sort()) yield* walk(tree[child] as Tree, child);
  yield { kind: "directoryEnd" };
}

/** What an entry holds, in short: `/` opens a folder and `.` closes it. */
async function entry(tree: Tree, path: readonly string[]): Promise<string> {
  let text = "";
  for await (const event of narEntry(readNar(writeNar(walk(tree))), path)) {
    if (event.kind === "content") text += `=${fromUtf8(event.bytes)}`;
    else if (event.kind === "directoryEnd") text += ".";
    else text += `${event.name}${event.kind === "directory" ? "/" : ""} `;
  }
  return text;
}

const TREE = { a: { a: "deep", b: "x" }, b: { a: { a: "deeper", c: "" }, z: "last" }, "b.txt": "text" };

test.each([
  [["b.txt"], " =text"],
  [["a", "a"], " =deep"],
  [["b", "a"], "/ a =deeperc ."],
  [["b", "a", "c"], " "],
  [["b"], "/ a/ a =deeperc .z =last."],
  [[], "/ a/ a =deepb =x.b/ a/ a =deeperc .z =last.b.txt =text."],
])("the entry %j is found with all that it holds and nothing beside it", async (path, found) => {
  expect(await entry(TREE, path)).toBe(found);
});

test.each([[["c"]], [["a", "c"]], [["b.txt", "a"]], [["a", "a", "a"]], [["z"]], [["a", "z"]]])(
  "there is no entry %j",
  async (path) => {
    expect(await entry(TREE, path)).toBe("");
  },
);

test("a root that is a file is found, and nothing below it", async () => {
  expect(await entry("alone", [])).toBe(" =alone");
  expect(await entry("alone", ["a"])).toBe("");
});

test("the last event of an entry comes only when the NAR was whole", async () => {
  async function* cut(): AsyncGenerator<NarEvent> {
    yield* [...walk(TREE)].slice(0, -2);
    throw new Error("cut off");
  }
  const events: string[] = [];
  const read = async () => {
    for await (const { kind } of narEntry(cut(), ["a", "a"])) events.push(kind);
  };
  await expect(read()).rejects.toThrow("cut off");
  expect(events).toEqual(["file"]);
});
