import { expect, onTestFinished, test, vi } from "vitest";
import { heapBytesOfEach } from "#test/support/heap.ts";
import { RecentTexts } from "./recent-texts.ts";

const LIMITS = { blockBytes: 512, blocksMax: 8 };
const HEAD_BYTES = 64;

function setAll(texts: RecentTexts, keys: readonly string[], text = "x"): void {
  for (const key of keys) texts.set({ key, alias: "", text, expiresAt: 1 });
}

function found(texts: RecentTexts, keys: readonly string[]): string[] {
  return keys.filter((key) => texts.get(key, 0));
}

/** It takes this many bytes with what is kept beside it. */
function textOf(bytes: number, keyLength: number): string {
  return "x".repeat(bytes - HEAD_BYTES - keyLength);
}

test("a text is found by its key and by its alias, until it expires", () => {
  const texts = new RecentTexts(LIMITS);
  texts.set({ key: "one", alias: "other", text: "text", expiresAt: 1.5 });
  texts.set({ key: "", alias: "", text: "", expiresAt: 2 });
  expect(texts.get("one", 1)).toEqual({ text: "text", expiresAt: 1.5 });
  expect(texts.getByAlias("other", 1)).toEqual({ text: "text", expiresAt: 1.5 });
  expect(texts.get("", 1)).toEqual({ text: "", expiresAt: 2 });
  for (const unknown of ["other", "On", "oneother"]) expect(texts.get(unknown, 1)).toBeUndefined();
  for (const unknown of ["one", "otherr", ""]) expect(texts.getByAlias(unknown, 1)).toBeUndefined();
  expect(["one", ""].map((key) => texts.get(key, 1.5)?.expiresAt)).toEqual([undefined, 2]);
  expect(texts.getByAlias("other", 1.5)).toBeUndefined();
});

test("what is set again is in place of what was, under both names, also when that had expired", () => {
  const texts = new RecentTexts(LIMITS);
  texts.set({ key: "one", alias: "before", text: "before", expiresAt: -1 });
  texts.set({ key: "one", alias: "after", text: "after", expiresAt: 2 });
  expect(texts.get("one", 0)?.text).toBe("after");
  expect(texts.getByAlias("before", -2)).toBeUndefined();
  expect(texts.size).toBe(1);
  texts.delete("one");
  expect([texts.get("one", 0), texts.getByAlias("after", 0), texts.size]).toEqual([undefined, undefined, 0]);
});

test("of several with one alias the newest is found, and the one before when that goes or expires", () => {
  const texts = new RecentTexts(LIMITS);
  for (const [expiresAt, key] of ["a", "b", "c"].entries()) texts.set({ key, alias: "all", text: key, expiresAt });
  texts.set({ key: "d", alias: "all", text: "d", expiresAt: 1 });
  expect([0, 1].map((now) => texts.getByAlias("all", now)?.text)).toEqual(["d", "c"]);
  const left = ["d", "c", "b", "a"].map((key) => {
    const newest = texts.getByAlias("all", -1)?.text;
    texts.delete(key);
    return newest;
  });
  expect(left).toEqual(["d", "c", "b", "a"]);
  expect(texts.getByAlias("all", -1)).toBeUndefined();
});

test("names that fall together are told apart", () => {
  // Every hash begins with the same number then.
  vi.spyOn(Math, "random").mockReturnValue(0);
  onTestFinished(() => {
    vi.restoreAllMocks();
  });
  const hashOf = (text: string) => {
    let hash = 0;
    for (const character of text) hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
    return hash ^ (hash >>> 15);
  };
  const names = Array.from({ length: 400_000 }, (_, index) => (index * 7_919 * 104_729).toString(36).padStart(9, "0"));
  const byHash = new Map<number, string>();
  const pairs = names.flatMap((name) => {
    const other = byHash.get(hashOf(name));
    byHash.set(hashOf(name), name);
    return other ? [[other, name] as const] : [];
  });
  expect(pairs.length).toBeGreaterThan(0);
  for (const [one, two] of pairs) {
    const texts = new RecentTexts(LIMITS);
    texts.set({ key: one, alias: two, text: "one", expiresAt: 1 });
    expect([texts.get(two, 0), texts.getByAlias(one, 0)]).toEqual([undefined, undefined]);
    texts.set({ key: two, alias: one, text: "two", expiresAt: 1 });
    expect([one, two].map((name) => texts.get(name, 0)?.text)).toEqual(["one", "two"]);
    expect([one, two].map((name) => texts.getByAlias(name, 0)?.text)).toEqual(["two", "one"]);
  }
});

test("all whose keys begin with the same are deleted at once, also thousands with one alias", () => {
  const texts = new RecentTexts({ blockBytes: 1024 * 1024, blocksMax: 8 });
  const keys = Array.from({ length: 30_000 }, (_, index) => `${index % 3}/${index}`);
  for (const key of keys) texts.set({ key, alias: "all", text: key, expiresAt: 1 });
  texts.deleteAll("2/");
  expect(found(texts, keys)).toEqual(keys.filter((key) => !key.startsWith("2/")));
  expect(texts.getByAlias("all", 0)?.text).toBe(keys.at(-2));
  texts.deleteAll("");
  expect([texts.size, texts.getByAlias("all", 0)]).toEqual([0, undefined]);
});

test("what is not ASCII, or larger than a block, is not kept, nor what it should have replaced", () => {
  const texts = new RecentTexts(LIMITS);
  setAll(texts, ["a", "b", "c"]);
  setAll(texts, ["a"], "ü");
  setAll(texts, ["b"], textOf(513, 1));
  // Of this only what fits is written, which has as many bytes as the text has characters.
  setAll(texts, ["c"], `ü${textOf(511, 1)}`);
  setAll(texts, ["ü"]);
  expect(found(texts, ["a", "b", "c", "ü"])).toEqual([]);
  setAll(texts, ["b"], textOf(512, 1));
  expect(found(texts, ["b"])).toEqual(["b"]);
  expect(texts.size).toBe(1);
});

test("without blocks nothing is kept", () => {
  const texts = new RecentTexts({ ...LIMITS, blocksMax: 0 });
  setAll(texts, ["a"]);
  texts.deleteAll("");
  expect([texts.get("a", 0), texts.size]).toEqual([undefined, 0]);
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

test("to use what lies in the newer half takes no room from others", () => {
  const texts = new RecentTexts(LIMITS);
  const keys = Array.from({ length: 28 }, (_, index) => String(index).padStart(8, "0"));
  setAll(texts, keys, textOf(128, 8));
  for (let i = 0; i < 1_000; i++) texts.get(keys.at(-1) as string, 0);
  expect(found(texts, keys)).toEqual(keys);
});

test("whatever is done, what is found is what was set last, and what was used lately is found", () => {
  const texts = new RecentTexts(LIMITS);
  const known = new Map<string, { alias: string; text: string; expiresAt: number; at: number }>();
  const random = (below: number) => Math.floor(Math.random() * below);
  /** Bytes written at the most, with what is left free at the ends of blocks. */
  let written = 0;
  const half = (LIMITS.blockBytes * LIMITS.blocksMax) / 2;
  for (let step = 0; step < 30_000; step++) {
    const key = `key-${random(60)}`;
    const entry = known.get(key);
    const action = random(20);
    if (action < 8) {
      const kept = action < 4 || !entry ? texts.get(key, 0) : texts.getByAlias(entry.alias, 0);
      const isRecent = entry && written - entry.at < half - 2 * LIMITS.blockBytes;
      if (!entry) expect(kept).toBeUndefined();
      else if (kept || isRecent) expect(kept).toEqual({ text: entry.text, expiresAt: entry.expiresAt });
      if (kept) known.set(key, { ...(entry as NonNullable<typeof entry>), at: written });
      // It may have been written again.
      if (kept) written += 2 * (HEAD_BYTES + 80);
    } else if (action < 19) {
      const next = { alias: `alias-${step}`, text: "y".repeat(random(50)), expiresAt: step + 1 };
      texts.set({ key, ...next });
      written += 2 * (HEAD_BYTES + 80);
      known.set(key, { ...next, at: written });
    } else {
      texts.delete(key);
      known.delete(key);
    }
  }
  const left = [...known.keys()].filter((key) => texts.get(key, 0));
  for (const key of left) texts.delete(key);
  expect(texts.size).toBe(0);
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
