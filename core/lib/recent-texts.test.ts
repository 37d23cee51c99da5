import { expect, test } from "vitest";
import { heapBytesOfEach } from "#test/support/heap.ts";
import { RecentTexts } from "./recent-texts.ts";

const LIMITS = { blockBytes: 512, blocksMax: 8 };
const HEAD_BYTES = 48;

function setAll(texts: RecentTexts, keys: readonly string[], text = "x"): void {
  for (const key of keys) texts.set({ key, alias: null, text, number: 1 });
}

function found(texts: RecentTexts, keys: readonly string[]): string[] {
  return keys.filter((key) => texts.get(key));
}

/** It takes this many bytes with what is kept beside it. */
function textOf(bytes: number, keyLength: number): string {
  return "x".repeat(bytes - HEAD_BYTES - keyLength);
}

test("a text is found by its key and by its alias, with its number", () => {
  const texts = new RecentTexts(LIMITS);
  texts.set({ key: "one", alias: "other", text: "text", number: 1.5 });
  texts.set({ key: "two", alias: null, text: "", number: -1 });
  expect(texts.get("one")).toEqual({ text: "text", number: 1.5 });
  expect(texts.getByAlias("other")).toEqual({ text: "text", number: 1.5 });
  expect(texts.get("two")).toEqual({ text: "", number: -1 });
  for (const unknown of ["other", "On", "oneother", ""]) expect(texts.get(unknown)).toBeUndefined();
  for (const unknown of ["one", "otherr", ""]) expect(texts.getByAlias(unknown)).toBeUndefined();
});

test("what is set again is in place of what was, under both names", () => {
  const texts = new RecentTexts(LIMITS);
  texts.set({ key: "one", alias: "before", text: "before", number: 1 });
  texts.set({ key: "one", alias: "after", text: "after", number: 2 });
  expect(texts.get("one")?.text).toBe("after");
  expect(texts.getByAlias("before")).toBeUndefined();
  expect(texts.size).toBe(1);
  texts.delete("one");
  expect([texts.get("one"), texts.getByAlias("after"), texts.size]).toEqual([undefined, undefined, 0]);
});

test("of several with one alias the newest is found, and the one before when that goes", () => {
  const texts = new RecentTexts(LIMITS);
  for (const key of ["a", "b", "c"]) texts.set({ key, alias: "all", text: key, number: 0 });
  const left = ["c", "b", "a"].map((key) => {
    const newest = texts.getByAlias("all")?.text;
    texts.delete(key);
    return newest;
  });
  expect(left).toEqual(["c", "b", "a"]);
  expect(texts.getByAlias("all")).toBeUndefined();
});

test("what is not ASCII, or larger than a block, is not kept, nor what it should have replaced", () => {
  const texts = new RecentTexts(LIMITS);
  setAll(texts, ["a", "b"]);
  setAll(texts, ["a"], "ü");
  setAll(texts, ["b"], textOf(513, 1));
  setAll(texts, ["ü"]);
  expect(found(texts, ["a", "b", "ü"])).toEqual([]);
  setAll(texts, ["b"], textOf(512, 1));
  expect(found(texts, ["b"])).toEqual(["b"]);
  expect(texts.keys()).toEqual(["b"]);
});

test("without blocks nothing is kept", () => {
  const texts = new RecentTexts({ ...LIMITS, blocksMax: 0 });
  setAll(texts, ["a"]);
  expect([texts.get("a"), texts.keys(), texts.size]).toEqual([undefined, [], 0]);
});

test("as much as goes into the blocks is kept, and what goes round stays if it is used", () => {
  const texts = new RecentTexts(LIMITS);
  // Four go into a block, and 28 into seven of the eight.
  const keys = Array.from({ length: 28 }, (_, index) => String(index).padStart(8, "0"));
  const text = textOf(128, 8);
  setAll(texts, keys, text);
  for (let round = 0; round < 5; round++) expect(found(texts, keys)).toEqual(keys);
  expect(texts.size).toBe(28);
  setAll(
    texts,
    keys.map((key) => `1${key.slice(1)}`),
    text,
  );
  expect(found(texts, keys).length).toBeLessThanOrEqual(4);
});

test("whatever is done, what is found is what was set last, and what was used lately is found", () => {
  const texts = new RecentTexts(LIMITS);
  const known = new Map<string, { alias: string; text: string; number: number; at: number }>();
  const random = (below: number) => Math.floor(Math.random() * below);
  /** Bytes written at the most, with what is left free at the ends of blocks. */
  let written = 0;
  const half = (LIMITS.blockBytes * LIMITS.blocksMax) / 2;
  for (let step = 0; step < 30_000; step++) {
    const key = `key-${random(60)}`;
    const entry = known.get(key);
    const action = random(20);
    if (action < 8) {
      const kept = action < 4 || !entry ? texts.get(key) : texts.getByAlias(entry.alias);
      const isRecent = entry && written - entry.at < half - 2 * LIMITS.blockBytes;
      if (!entry) expect(kept).toBeUndefined();
      else if (kept || isRecent) expect(kept).toEqual({ text: entry.text, number: entry.number });
      if (kept) known.set(key, { ...(entry as NonNullable<typeof entry>), at: written });
      // It may have been written again.
      if (kept) written += 2 * (HEAD_BYTES + 80);
    } else if (action < 19) {
      const next = { alias: `alias-${step}`, text: "y".repeat(random(50)), number: step };
      texts.set({ key, ...next });
      written += 2 * (HEAD_BYTES + 80);
      known.set(key, { ...next, at: written });
    } else {
      texts.delete(key);
      known.delete(key);
    }
  }
  const keys = texts.keys();
  expect(keys.length).toBe(texts.size);
  expect(new Set(keys).size).toBe(keys.length);
  // To look for one may make room for it.
  expect(texts.get(keys.at(-1) as string)?.text).toBe(known.get(keys.at(-1) as string)?.text);
  expect(keys.every((key) => [known.get(key)?.text, undefined].includes(texts.get(key)?.text))).toBe(true);
});

test("nothing of it is on V8's heap", () => {
  const each = heapBytesOfEach(20_000, () => {
    const texts = new RecentTexts({ blockBytes: 1024 * 1024, blocksMax: 64 });
    setAll(
      texts,
      Array.from({ length: 20_000 }, (_, index) => `key ${index}`),
      "x".repeat(500),
    );
    expect(texts.size).toBe(20_000);
    return texts;
  });
  expect(each).toBeLessThan(10);
});
