import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { byteStringOfText, byteStringText } from "./byte-string.ts";
import { BuildIdFinder, debugMember } from "./debug-info.ts";
import type { NarEvent } from "./nar.ts";
import {
  findListedEntry,
  type ListingEvent,
  NarListingParseError,
  NarListingPrinter,
  readNarListing,
} from "./nar-listing.ts";

type Tree =
  | { readonly size: number; readonly executable: boolean }
  | { readonly target: string }
  | { readonly entries: ReadonlyMap<string, Tree> };

const anyName = fc.string({ unit: "binary", minLength: 1, maxLength: 12 }).map(byteStringOfText);
const { tree: anyTree } = fc.letrec<{ tree: Tree; folder: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.record({ size: fc.maxSafeNat(), executable: fc.boolean() }),
    fc.record({ target: anyName }),
    tie("folder"),
  ),
  folder: fc
    .uniqueArray(fc.tuple(anyName, tie("tree")), { maxLength: 5, selector: ([name]) => name })
    .map((entries) => ({ entries: new Map(entries.sort(([a], [b]) => (a < b ? -1 : 1))) })),
}));

function* walk(tree: Tree, name = ""): Generator<NarEvent> {
  if ("entries" in tree) {
    yield { kind: "directory", name };
    for (const [child, below] of tree.entries) yield* walk(below, child);
    yield { kind: "directoryEnd" };
  } else if ("target" in tree) yield { kind: "symlink", name, target: tree.target };
  else yield { kind: "file", name, ...tree, offset: 8 };
}

function printed(tree: Tree): string {
  const printer = new NarListingPrinter();
  return [...walk(tree)].map((event) => printer.print(event)).join("");
}

/** As plain JSON means it. */
function asJson(tree: Tree): unknown {
  if ("entries" in tree) {
    const entries = [...tree.entries].map(([name, below]) => [byteStringText(name), asJson(below)]);
    return { type: "directory", entries: Object.fromEntries(entries) };
  }
  if ("target" in tree) return { type: "symlink", target: byteStringText(tree.target) };
  const { size, executable } = tree;
  return { type: "regular", size, ...(executable && { executable }), narOffset: 8 };
}

async function* parts(text: string, length: number): AsyncGenerator<string> {
  for (let start = 0; start < text.length; start += length) yield text.slice(start, start + length);
}

async function listed(text: string, length = text.length): Promise<ListingEvent[]> {
  const events: ListingEvent[] = [];
  for await (const event of readNarListing(parts(text, length))) events.push(event);
  return events;
}

describe("a NAR listing", () => {
  test("is the JSON of the tree, whatever its names are", () => {
    fc.assert(
      fc.property(anyTree, (tree) => {
        expect(JSON.parse(printed(tree))).toEqual({ version: 1, root: asJson(tree) });
      }),
    );
  });

  test("is read as it was written, in any cut", async () => {
    await fc.assert(
      fc.asyncProperty(anyTree, fc.integer({ min: 1, max: 40 }), async (tree, length) => {
        const events = [...walk(tree)].map((event) => {
          if (event.kind === "symlink")
            return { ...event, name: byteStringText(event.name), target: byteStringText(event.target) };
          return "name" in event ? { ...event, name: byteStringText(event.name) } : event;
        });
        expect(await listed(printed(tree), length)).toEqual(events);
      }),
    );
  });

  test("that is cut off or is none of ours is refused, and never read for ever", async () => {
    const text = printed({ entries: new Map([["a", { entries: new Map([["b", { target: 'x"\\' }]]) }]]) });
    for (let length = 0; length < text.length; length++) {
      await expect(listed(text.slice(0, length), 7)).rejects.toThrow(NarListingParseError);
    }
    await fc.assert(
      fc.asyncProperty(fc.nat(text.length - 1), fc.string({ maxLength: 4 }), async (at, patch) => {
        await listed(text.slice(0, at) + patch + text.slice(at + 1), 16).catch((error: unknown) => {
          if (!(error instanceof NarListingParseError)) throw error;
        });
      }),
    );
    await expect(listed(`{"version":1,"root":"${"x".repeat(100_000)}`, 1_000)).rejects.toThrow(NarListingParseError);
  });

  test("finds every entry by its path, links on the way, and nothing else", async () => {
    const entries = (of: Record<string, Tree>): Tree => ({ entries: new Map(Object.entries(of)) });
    const file = { size: 3, executable: true };
    const text = printed(entries({ a: entries({ a: file, b: file }), b: file, link: { target: "a" }, z: entries({}) }));
    const find = async (...path: string[]) => {
      const found = await findListedEntry(readNarListing(parts(text, 11)), path);
      return found && `${found.entry.kind} ${found.entry.name} ${found.rest.join("/")}`;
    };
    expect(await find()).toBe("directory  ");
    expect(await find("a", "b")).toBe("file b ");
    expect(await find("b")).toBe("file b ");
    expect(await find("z")).toBe("directory z ");
    expect(await find("link")).toBe("symlink link ");
    expect(await find("link", "a", "x")).toBe("symlink link a/x");
    for (const path of [["c"], ["a", "c"], ["b", "a"], ["z", "a"], ["a", "a", "a"], [""], ["a", ""], [".."]]) {
      expect(await find(...path)).toBeNull();
    }
  });
});

describe("debug information", () => {
  const id = `ab${"cd".repeat(19)}`;

  function idsOf(tree: Tree, max = 10): readonly string[] {
    const finder = new BuildIdFinder(max);
    for (const event of walk(tree)) finder.take(event);
    return finder.found;
  }

  function treeOf(...paths: string[]): Tree {
    const root = new Map<string, Tree>();
    for (const path of paths) {
      const names = path.split("/");
      let folder = root;
      for (const name of names.slice(0, -1)) {
        const next = folder.get(name) ?? { entries: new Map() };
        folder.set(name, next);
        folder = (next as { entries: Map<string, Tree> }).entries;
      }
      folder.set(names.at(-1) as string, { size: 1, executable: false });
    }
    return { entries: root };
  }

  test("is found where Nix keeps it", () => {
    expect(idsOf(treeOf("bin/x", debugMember(id), `lib/debug/.build-id/00/${"1".repeat(38)}.debug`, "lib/x"))).toEqual([
      id,
      `00${"1".repeat(38)}`,
    ]);
  });

  test("is nowhere else, and bounded", () => {
    const rest = "1".repeat(38);
    const others = [
      `debug/.build-id/00/${rest}.debug`,
      `x/lib/debug/.build-id/00/${rest}.debug`,
      `lib/debug/.build-id/00/x/${rest}.debug`,
      `lib/debug/.build-id/0g/${rest}.debug`,
      `lib/debug/.build-id/00/${rest}`,
      `lib/debug/.build-id/00/${rest}0.debug`,
      `lib/debug/.build-id/${rest}.debug`,
      `lib/debugx/.build-id/00/${rest}.debug`,
    ];
    expect(idsOf(treeOf(...others))).toEqual([]);
    expect(idsOf(treeOf(debugMember(id), debugMember(id.replace("d", "e"))), 1)).toHaveLength(1);
  });
});
