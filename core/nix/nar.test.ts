import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "../lib/assert.ts";
import { concatBytes, utf8 } from "../lib/bytes.ts";
import { collect, streamOf } from "../lib/streams.ts";
import { byteStringOf } from "./byte-string.ts";
import { NAR_LIMITS, type NarEvent, NarParseError, readNar, validateNar } from "./nar-reader.ts";
import { encodeLength, encodeString, isEntryName } from "./nar-tokens.ts";
import { writeNar } from "./nar-writer.ts";

const MIB = 1024 * 1024;

/** Writes the grammar down by hand, so that reader and writer are not only compared with each other. */
const tokens = (...parts: (string | Uint8Array)[]) =>
  concatBytes(parts.map((part) => (typeof part === "string" ? encodeString(utf8(part)) : part)));
const nar = (...node: (string | Uint8Array)[]) => tokens("nix-archive-1", ...node);
const file = (content: string) => tokens("(", "type", "regular", "contents", content, ")");
const entry = (name: string, node: Uint8Array) => tokens("entry", "(", "name", name, "node", node, ")");
const directory = (...entries: Uint8Array[]) => tokens("(", "type", "directory", ...entries, ")");

async function eventsOf(...chunks: Uint8Array[]): Promise<NarEvent[]> {
  const events: NarEvent[] = [];
  for await (const event of readNar(streamOf(...chunks))) events.push(event);
  return events;
}

async function accepts(bytes: Uint8Array): Promise<boolean> {
  try {
    await collect(validateNar(streamOf(bytes)), bytes.length);
    return true;
  } catch (error) {
    if (error instanceof NarParseError) return false;
    throw error;
  }
}

function chunksOf(bytes: Uint8Array, size: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size));
}

type Tree =
  | { kind: "file"; executable: boolean; content: Uint8Array }
  | { kind: "symlink"; target: string }
  | { kind: "directory"; entries: (readonly [string, Tree])[] };

const anyName = fc.uint8Array({ minLength: 1, maxLength: 20 }).map(byteStringOf).filter(isEntryName);
const { tree: anyTree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    fc.record({
      kind: fc.constant("file" as const),
      executable: fc.boolean(),
      content: fc.uint8Array({ maxLength: 40 }),
    }),
    fc.record({ kind: fc.constant("symlink" as const), target: anyName }),
    fc.record({
      kind: fc.constant("directory" as const),
      entries: fc
        .uniqueArray(fc.tuple(anyName, tie("tree")), { maxLength: 5, selector: ([name]) => name })
        .map((entries) => entries.sort(([a], [b]) => (a < b ? -1 : 1))),
    }),
  ),
}));

function* walk(name: string, tree: Tree): Generator<NarEvent> {
  if (tree.kind === "symlink") yield { kind: "symlink", name, target: tree.target };
  else if (tree.kind === "file") {
    yield { kind: "file", name, executable: tree.executable, size: tree.content.length, offset: 0 };
    if (tree.content.length > 0) yield { kind: "content", bytes: tree.content };
  } else {
    yield { kind: "directory", name };
    for (const [child, node] of tree.entries) yield* walk(child, node);
    yield { kind: "directoryEnd" };
  }
}

/** Joins the parts of a file and drops the offsets, which a writer does not need. */
function normalised(events: Iterable<NarEvent>): unknown[] {
  const joined: unknown[] = [];
  let parts: Uint8Array[] = [];
  for (const event of [...events, null]) {
    if (event?.kind === "content") parts.push(event.bytes);
    else {
      if (parts.length > 0) joined.push(byteStringOf(concatBytes(parts)));
      parts = [];
      joined.push(event?.kind === "file" ? { ...event, offset: 0 } : event);
    }
  }
  return joined;
}

describe("reading a NAR", () => {
  test("a tree comes as a walk, with the place of each file's content", async () => {
    const script = tokens("(", "type", "regular", "executable", "", "contents", "#!/bin/sh", ")");
    const link = tokens("(", "type", "symlink", "target", "../x", ")");
    const bytes = nar(directory(entry("a", directory(entry("run", script))), entry("b", file("")), entry("c", link)));
    const events = await eventsOf(bytes);
    const [run] = events.filter((event) => event.kind === "file");
    expect(run && new TextDecoder().decode(bytes.subarray(run.offset, run.offset + run.size))).toBe("#!/bin/sh");
    expect(normalised(events)).toEqual([
      { kind: "directory", name: "" },
      { kind: "directory", name: "a" },
      { kind: "file", name: "run", executable: true, size: 9, offset: 0 },
      "#!/bin/sh",
      { kind: "directoryEnd" },
      { kind: "file", name: "b", executable: false, size: 0, offset: 0 },
      { kind: "symlink", name: "c", target: "../x" },
      { kind: "directoryEnd" },
      null,
    ]);
  });

  test("any tree survives writing and reading, however the bytes are cut", async () => {
    await fc.assert(
      fc.asyncProperty(anyTree, fc.integer({ min: 1, max: 70 }), async (tree, size) => {
        const events = [...walk("", tree)];
        const bytes = await collect(writeNar(events), MIB);
        expect(normalised(await eventsOf(...chunksOf(bytes, size)))).toEqual(normalised(events));
        expect(await collect(writeNar(readNar(streamOf(...chunksOf(bytes, size)))), MIB)).toEqual(bytes);
      }),
    );
  });

  test("one changed byte outside of content, or a cut, is never accepted as the same tree", async () => {
    const bytes = nar(directory(entry("a", file("A")), entry("b", file("12345678"))));
    const original = normalised(await eventsOf(bytes));
    for (let offset = 0; offset < bytes.length; offset++) {
      expect(await accepts(bytes.subarray(0, offset)), `cut at ${offset}`).toBe(false);
      const changed = bytes.with(offset, (bytes[offset] as number) ^ 1);
      if (await accepts(changed)) expect(normalised(await eventsOf(changed))).not.toEqual(original);
    }
  });

  test("random bytes end in the parser's own error", async () => {
    const start = nar();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array(), fc.boolean(), async (bytes, withMagic) => {
        expect(await accepts(withMagic ? concatBytes([start, bytes]) : bytes)).toBe(false);
      }),
    );
  });

  test.each<[string, Uint8Array, string]>([
    ["something else", utf8("<html>".padEnd(64)), "does not start"],
    ["entries that do not ascend", nar(directory(entry("b", file("")), entry("a", file("")))), "ascend"],
    ["an entry twice", nar(directory(entry("a", file("")), entry("a", file("")))), "ascend"],
    ["an empty name", nar(directory(entry("", file("")))), "name"],
    ["the name .", nar(directory(entry(".", file("")))), "name"],
    ["the name ..", nar(directory(entry("..", file("")))), "name"],
    ["a name with a slash", nar(directory(entry("a/b", file("")))), "name"],
    ["a name with a NUL", nar(directory(entry("a\0", file("")))), "name"],
    ["a name that is too long", nar(directory(entry("x".repeat(256), file("")))), "more than 255"],
    ["an empty target", nar("(", "type", "symlink", "target", "", ")"), "target"],
    ["a target with a NUL", nar("(", "type", "symlink", "target", "a\0b", ")"), "target"],
    ["a target whose padding is not zero", nar("(", "type", "symlink", "target", "abc", ")").with(-17, 1), "padding"],
    ["a target that is too long", nar("(", "type", "symlink", "target", "x".repeat(4096), ")"), "more than 4095"],
    ["padding that is not zero", nar(file("A")).with(nar(file("A")).length - 17, 1), "padding"],
    ["a file without contents", nar("(", "type", "regular", ")", new Uint8Array(16)), "without contents"],
    ["contents before the mark", nar("(", "type", "regular", "contents", "", "executable", "", ")"), "does not end"],
    ["an unknown type", nar("(", "type", "fifo", ")", new Uint8Array(16)), "unknown type"],
    ["bytes behind the end", concatBytes([nar(file("")), Uint8Array.of(0)]), "follows"],
    ["a missing end", nar(directory(entry("a", file(""))).subarray(0, -16)), "ends too early"],
    ["no bytes", new Uint8Array(), "ends too early"],
    ["a size beyond counting", nar("(", "type", "regular", "contents", encodeLength(2 ** 53)), "more than 9007"],
  ])("%s is refused", async (_, bytes, message) => {
    await expect(eventsOf(bytes)).rejects.toThrow(message);
    await expect(eventsOf(...chunksOf(bytes, 1))).rejects.toThrow(NarParseError);
    await expect(collect(validateNar(streamOf(bytes)), MIB), "also where nobody listens").rejects.toThrow(message);
  });

  test("depth and number of entries are bounded", async () => {
    const nested = nar(directory(entry("a", directory(entry("b", file(""))))));
    const read = (limits: object) => collect(validateNar(streamOf(nested), { ...NAR_LIMITS, ...limits }), MIB);
    await expect(read({ depthMax: 1 })).rejects.toThrow("deeper than 1");
    await expect(read({ entriesMax: 2 })).rejects.toThrow("more than 2 entries");
    await expect(read({ depthMax: 2, entriesMax: 3 })).resolves.toEqual(nested);
  });

  test("a file's content is not copied", async () => {
    const chunk = new Uint8Array(MIB);
    const start = nar("(", "type", "regular", "contents", encodeLength(2 * MIB));
    const events = await eventsOf(start, chunk, chunk, tokens(")"));
    expect(events.map((event) => event.kind)).toEqual(["file", "content", "content"]);
    for (const event of events) if (event.kind === "content") expect(event.bytes.buffer).toBe(chunk.buffer);
  });

  test("a checked stream passes the good chunks on and stops at the first bad one", async () => {
    const bytes = nar(directory(entry("a", file("A")), entry("a", file("B"))));
    const passed: Uint8Array[] = [];
    const read = async () => {
      for await (const chunk of validateNar(streamOf(...chunksOf(bytes, 8)))) passed.push(chunk);
    };
    await expect(read()).rejects.toThrow("ascend");
    const good = nar(tokens("(", "type", "directory"), entry("a", file("A"))).length;
    expect(concatBytes(passed).length).toBeGreaterThanOrEqual(good);
    expect(concatBytes(passed).length).toBeLessThan(bytes.length);
  });
});

describe("writing a NAR", () => {
  const root: NarEvent = { kind: "directory", name: "" };
  const end: NarEvent = { kind: "directoryEnd" };
  const empty = (name: string): NarEvent => ({ kind: "file", name, executable: false, size: 0, offset: 0 });
  const content = (size: number): NarEvent => ({ kind: "content", bytes: new Uint8Array(size) });

  test.each<[string, NarEvent[]]>([
    ["no events", []],
    ["a directory that stays open", [root]],
    ["two roots", [empty(""), empty("")]],
    ["a root with a name", [empty("a")]],
    ["an end of nothing", [end]],
    ["entries that do not ascend", [root, empty("b"), empty("a"), end]],
    ["a name with a slash", [root, empty("a/b"), end]],
    ["too little content", [root, { ...empty("a"), size: 2 } as NarEvent, content(1), end]],
    ["too much content", [{ ...empty(""), size: 1 } as NarEvent, content(2)]],
    ["content of nothing", [root, content(1), end]],
  ])("%s is no tree", async (_, events) => {
    await expect(collect(writeNar(events), MIB)).rejects.toThrow(AssertionError);
  });

  test("large files go out in the parts they came in, small ones together", async () => {
    const large = new Uint8Array(MIB);
    const events: NarEvent[] = [root, ...["a", "b", "c"].map(empty), { ...empty("d"), size: MIB } as NarEvent];
    const chunks: Uint8Array[] = [];
    for await (const chunk of writeNar([...events, { kind: "content", bytes: large }, end])) chunks.push(chunk);
    expect(chunks.length).toBe(3);
    expect(chunks[1]).toBe(large);
  });
});
