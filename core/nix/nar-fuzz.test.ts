import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { concatBytes, utf8 } from "../lib/bytes.ts";
import { type ByteStream, collect } from "../lib/streams.ts";
import { NAR_LIMITS, type NarEvent, NarParseError } from "./nar.ts";
import { readNar, validateNar } from "./nar-reader.ts";
import { encodeLength, encodeString } from "./nar-tokens.ts";
import { writeNar } from "./nar-writer.ts";
import { NarInfoParseError, parseNarInfo } from "./narinfo.ts";

type Tree =
  | { readonly content: Uint8Array; readonly executable: boolean }
  | { readonly target: string }
  | { readonly entries: ReadonlyMap<string, Tree> };

const byte = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
const anyName = fc
  .string({ unit: byte, minLength: 1, maxLength: 20 })
  .filter((name) => !/[/\0]/.test(name) && name !== "." && name !== "..");
const anyTarget = fc.string({ unit: byte, minLength: 1, maxLength: 30 }).filter((target) => !target.includes("\0"));
const { tree: anyTree } = fc.letrec<{ tree: Tree; folder: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.record({ content: fc.uint8Array({ maxLength: 40 }), executable: fc.boolean() }),
    fc.record({ target: anyTarget }),
    tie("folder"),
  ),
  folder: fc
    .uniqueArray(fc.tuple(anyName, tie("tree")), { maxLength: 6, selector: ([name]) => name })
    .map((entries) => ({ entries: new Map(entries.sort(([a], [b]) => (a < b ? -1 : 1))) })),
}));

function* walk(tree: Tree, name = ""): Generator<NarEvent> {
  if ("entries" in tree) {
    yield { kind: "directory", name };
    for (const [child, below] of tree.entries) yield* walk(below, child);
    yield { kind: "directoryEnd" };
  } else if ("target" in tree) yield { kind: "symlink", name, target: tree.target };
  else {
    const { content, executable } = tree;
    yield { kind: "file", name, executable, size: content.length, offset: 0 };
    if (content.length > 0) yield { kind: "content", bytes: content };
  }
}

async function* cutIn(bytes: Uint8Array, lengths: readonly number[]): AsyncGenerator<Uint8Array> {
  let start = 0;
  for (let i = 0; start < bytes.length; i++) {
    const length = lengths[i % lengths.length] ?? 1;
    yield bytes.subarray(start, start + length);
    start += length;
  }
}

const anyCut = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 });

/** What the reader says, with the content of each file in one piece. */
async function eventsOf(stream: ByteStream): Promise<NarEvent[]> {
  const events: NarEvent[] = [];
  for await (const event of readNar(stream)) {
    const last = events.at(-1);
    if (event.kind === "content" && last?.kind === "content") {
      events[events.length - 1] = { kind: "content", bytes: concatBytes([last.bytes, event.bytes]) };
    } else events.push(event.kind === "content" ? { kind: "content", bytes: event.bytes.slice() } : event);
  }
  return events;
}

describe("whatever bytes come", () => {
  test("a tree is read as it was written, in any cut, and each offset is where the content lies", async () => {
    await fc.assert(
      fc.asyncProperty(anyTree, anyCut, async (tree, lengths) => {
        const nar = await collect(writeNar(walk(tree)), 1e9);
        const events = await eventsOf(cutIn(nar, lengths));
        expect(events.map((event) => ("offset" in event ? { ...event, offset: 0 } : event))).toEqual([...walk(tree)]);
        for (const [index, event] of events.entries()) {
          const content = events[index + 1];
          if (event.kind !== "file" || content?.kind !== "content") continue;
          expect(nar.subarray(event.offset, event.offset + event.size)).toEqual(content.bytes);
        }
      }),
    );
  });

  test("one that was changed anywhere is refused by name, or is the one NAR of another tree", async () => {
    const anyChange = fc.tuple(fc.nat(), fc.constantFrom("flip", "cut", "insert", "remove", "repeat"), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(
        anyTree,
        fc.array(anyChange, { minLength: 1, maxLength: 3 }),
        anyCut,
        async (tree, changes, cut) => {
          let nar: Uint8Array = await collect(writeNar(walk(tree)), 1e9);
          for (const [where, how, value] of changes) nar = changed(nar, where % nar.length, how, value);
          try {
            const events = await eventsOf(cutIn(nar, cut));
            expect(await collect(writeNar(events), 1e9)).toEqual(nar);
          } catch (error) {
            if (!(error instanceof NarParseError)) throw error;
            await expect(collect(validateNar(cutIn(nar, cut)), 1e9)).rejects.toThrow(NarParseError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test("a narinfo is refused by the parser's own error, quickly", () => {
    const anyLine = fc.oneof(
      fc.string({ maxLength: 30 }),
      fc
        .tuple(
          fc.constantFrom("StorePath", "URL", "NarHash", "NarSize", "References", "Deriver", "Sig", "CA", "FileSize"),
          fc.oneof(
            fc.string({ maxLength: 60 }),
            fc.constantFrom("0", "1", "-1", "1e9", `${"9".repeat(17)}`, "../..", "a:b"),
          ),
        )
        .map(([name, value]) => `${name}: ${value}`),
    );
    fc.assert(
      fc.property(fc.array(anyLine, { maxLength: 14 }), (lines) => {
        try {
          parseNarInfo(`${lines.join("\n")}\n`);
        } catch (error) {
          if (!(error instanceof NarInfoParseError)) throw error;
        }
      }),
      { numRuns: 1_000 },
    );
    const hash = "0".repeat(32);
    for (const text of [
      `References: ${`${hash}-a `.repeat(20_001)}\n`,
      `References: ${" ".repeat(1_000_000)}\n`,
      "Sig: a:b\n".repeat(65),
      `URL: ${"a".repeat(5_000)}\n`,
      `${"a".repeat(65)}: b\n`,
      `${":".repeat(100_000)}\n`,
    ]) {
      expect(() => parseNarInfo(text)).toThrow(NarInfoParseError);
    }
  });
});

describe("what claims too much", () => {
  const magic = encodeString(utf8("nix-archive-1"));
  const words = (...texts: string[]) => concatBytes(texts.map((text) => encodeString(utf8(text))));

  async function* start(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
    yield magic;
    yield* parts;
  }

  const LENGTHS = [2 ** 32, 2 ** 40, Number.MAX_SAFE_INTEGER].map(encodeLength);
  const HUGE = new Uint8Array(8).fill(0xff);

  test.each([...LENGTHS, HUGE].map((length) => [length]))(
    "a name, target or file of %j bytes costs no memory",
    async (length) => {
      const name = start(words("(", "type", "directory", "entry", "(", "name"), length);
      await expect(collect(validateNar(name), 1e6)).rejects.toThrow("a name of more than 255 bytes");
      const target = start(words("(", "type", "symlink", "target"), length);
      await expect(collect(validateNar(target), 1e6)).rejects.toThrow("more than 4095 bytes");
      const file = start(words("(", "type", "regular", "contents"), length, new Uint8Array(1_000));
      await expect(collect(validateNar(file), 1e6)).rejects.toThrow(NarParseError);
    },
  );

  test("folders in each other are counted, not recursed into", async () => {
    const folder = words("entry", "(", "name", "a", "node", "(", "type", "directory");
    async function* deep(depth: number): AsyncGenerator<Uint8Array> {
      yield* start(words("(", "type", "directory"));
      for (let i = 1; i < depth; i++) yield folder;
      for (let i = 1; i < depth; i++) yield words(")", ")");
      yield words(")");
    }
    const read = (depth: number) => collect(validateNar(deep(depth)), 1e9);
    expect((await read(NAR_LIMITS.depthMax)).length).toBeGreaterThan(NAR_LIMITS.depthMax * folder.length);
    await expect(read(NAR_LIMITS.depthMax + 1)).rejects.toThrow("deeper than 2048 directories");
  });
});

function changed(bytes: Uint8Array, at: number, how: string, value: number): Uint8Array {
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at + 1)];
  switch (how) {
    case "flip":
      return concatBytes([before, Uint8Array.of((bytes[at] as number) ^ (value || 1)), after]);
    case "cut":
      return at === 0 ? bytes : before;
    case "insert":
      return concatBytes([before, Uint8Array.of(value), bytes.subarray(at)]);
    case "remove":
      return bytes.length > 1 ? concatBytes([before, after]) : bytes;
    default:
      return concatBytes([bytes.subarray(0, at), bytes.subarray(Math.max(at - value, 0))]);
  }
}
