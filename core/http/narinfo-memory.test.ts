import { expect, test } from "vitest";
import { type FreshNarInfo, NarInfoMemory } from "./narinfo-memory.ts";

const LIMITS = { blockBytes: 512, blocksMax: 8, ageMsMax: 100 };

function narInfo(text: string, nar: FreshNarInfo["nar"] = null): FreshNarInfo {
  return { text, etag: `"${text.length}"`, contentLength: String(text.length), nar };
}

function clockAt(time: { ms: number }) {
  return { now: () => time.ms, monotonic: () => time.ms, schedule: () => () => {} };
}

async function fill(memory: NarInfoMemory, keys: readonly string[], text = "x"): Promise<void> {
  for (const key of keys) await memory.load(key, async () => narInfo(text));
}

test("a narinfo is known as it was rendered", async () => {
  const memory = new NarInfoMemory(clockAt({ ms: 0 }), LIMITS);
  const text = "StorePath: /nix/store/x\nURL: nar/y.nar.zst\n";
  await fill(memory, ["cache/a"], text);
  expect(memory.get("cache/a")).toEqual({ text, etag: '"43"', contentLength: "43" });
});

test("what is used again stays, and what is not makes room for what is new", async () => {
  const memory = new NarInfoMemory(clockAt({ ms: 0 }), LIMITS);
  await fill(memory, ["used", "not used"]);
  for (let round = 0; round < 10; round++) {
    await fill(
      memory,
      Array.from({ length: 8 }, (_, index) => `${round}-${index}`),
    );
    expect(memory.get("used")).toBeDefined();
    expect(memory.size).toBeLessThanOrEqual(64);
  }
  expect(memory.get("not used")).toBeUndefined();
});

test("a NAR is known by its narinfo, in its own cache, and goes with it", async () => {
  const time = { ms: 0 };
  const memory = new NarInfoMemory(clockAt(time), LIMITS);
  const nar = { name: "n", objectKey: "nar/aa/1", generation: 7 };
  const load = (key: string, text: string) => memory.load(key, async () => narInfo(text, nar));
  await load("one/a", "first");
  await load("one/b", "second");
  const told = { objectKey: "nar/aa/1", generation: 7, expiresAt: 100 };
  expect(memory.ofNar("one", "n")).toEqual({ ...told, narInfo: "second" });
  expect([memory.ofNar("two", "n"), memory.ofNar("one", "a")]).toEqual([undefined, undefined]);
  memory.forget("one/b");
  expect(memory.ofNar("one", "n")?.narInfo).toBe("first");
  time.ms = 100;
  expect(memory.ofNar("one", "n")).toBeUndefined();
});

test("what has become too old is looked up again", async () => {
  const time = { ms: 0 };
  const memory = new NarInfoMemory(clockAt(time), LIMITS);
  await fill(memory, ["a"]);
  time.ms = 99;
  expect(memory.get("a")).toBeDefined();
  time.ms = 100;
  expect(memory.get("a")).toBeUndefined();
});

test("a path that changes while it is looked up is not kept as it was", async () => {
  const memory = new NarInfoMemory(clockAt({ ms: 0 }), LIMITS);
  const gate = Promise.withResolvers<FreshNarInfo>();
  const before = memory.load("cache/a", () => gate.promise);
  memory.forget("cache/a");
  const after = memory.load("cache/a", async () => narInfo("after"));
  gate.resolve(narInfo("before"));

  await Promise.all([before, after]);
  expect(memory.get("cache/a")?.text).toBe("after");
});

test("many who ask at once cause one look-up, and a failed one is not remembered", async () => {
  const memory = new NarInfoMemory(clockAt({ ms: 0 }), LIMITS);
  let lookUps = 0;
  const lookUp = async () => {
    lookUps++;
    throw new Error("no database");
  };
  const answers = await Promise.allSettled([memory.load("a", lookUp), memory.load("a", lookUp)]);
  expect(answers.map((answer) => answer.status)).toEqual(["rejected", "rejected"]);
  expect(lookUps).toBe(1);

  await fill(memory, ["a"]);
  expect(memory.get("a")).toBeDefined();
});

test("a look-up that rests on the answer to another audience gets it, and what changes is stale for both", async () => {
  const memory = new NarInfoMemory(clockAt({ ms: 0 }), LIMITS);
  const roundTrip = () => memory.load("cache/a", async () => null, "1.1 here, 1.1 there");
  expect(await memory.load("cache/a", async () => (await roundTrip()) ?? narInfo("found"))).toMatchObject({
    text: "found",
  });

  memory.forget("cache/a");
  const gate = Promise.withResolvers<FreshNarInfo>();
  const both = [null, "1.1 there"].map((audience) => memory.load("cache/a", () => gate.promise, audience));
  memory.forget("cache/a");
  gate.resolve(narInfo("before"));
  await Promise.all(both);
  expect(memory.get("cache/a")).toBeUndefined();
});

test("a cache that goes takes its narinfos along, and no other's", async () => {
  const memory = new NarInfoMemory(clockAt({ ms: 0 }), LIMITS);
  await fill(memory, ["one/a", "one/b", "two/a"]);
  memory.forgetAll("one/");
  expect(["one/a", "one/b", "two/a"].filter((key) => memory.get(key))).toEqual(["two/a"]);
});
