import { expect, test } from "vitest";
import type { Nar } from "../services/nar.ts";
import { NarMemory } from "./nar-memory.ts";

const HASH = { algorithm: "sha256", digest: new Uint8Array(32) } as const;
const NAR: Nar = { narHash: HASH, narSize: 9, fileHash: HASH, fileSize: 9, compression: "zstd", objectKey: "nar/aa/1" };
const LIMITS = { entriesMax: 3, bytesMax: 5_000, ageMsMax: 1_000 };

function withMemory(limits: Partial<typeof LIMITS> = {}) {
  let now = 0;
  const clock = { now: () => now, monotonic: () => now, schedule: () => () => {} };
  const memory = new NarMemory(clock, { ...LIMITS, ...limits });
  const put = (cacheId: string, name: string, { pathHash = `path-${name}`, bytes = 0 } = {}) =>
    memory.put(
      { cacheId, name },
      { nar: NAR, name, pathHash, file: bytes ? new Uint8Array(bytes) : null },
      memory.generation,
    );
  const known = (names: readonly string[]) => names.filter((name) => memory.get("c1", name));
  const pass = (ms: number) => {
    now += ms;
  };
  return { memory, put, known, pass };
}

test("what is put is known under its own cache, and for so long only", () => {
  const { memory, put, pass } = withMemory();
  put("c1", "a");
  expect(memory.get("c1", "a")?.nar).toBe(NAR);
  expect(memory.get("c2", "a")).toBeUndefined();
  pass(999);
  // Its bytes make it no younger.
  put("c1", "a", { bytes: 10 });
  pass(1);
  expect(memory.get("c1", "a")).toBeUndefined();
});

test("with the path it is served for a NAR is forgotten under all its names, and nothing else", () => {
  const { memory, put, known } = withMemory();
  put("c1", "a", { pathHash: "one" });
  put("c1", "b", { pathHash: "one" });
  put("c1", "c", { pathHash: "other" });

  memory.forget("c1/one");
  memory.forget("c2/other");

  expect(known(["a", "b", "c"])).toEqual(["c"]);
  memory.forgetAll("c1/");
  expect(known(["c"])).toEqual([]);
});

test("what was looked up before its path was forgotten is not kept, whatever becomes of others", () => {
  const isKept = (forget: (memory: NarMemory) => void) => {
    const { memory, known } = withMemory();
    const before = memory.generation;
    forget(memory);
    memory.put({ cacheId: "c1", name: "a" }, { nar: NAR, name: "a", pathHash: "one", file: null }, before);
    return known(["a"]).length === 1;
  };
  expect(isKept((memory) => memory.forget("c1/one"))).toBe(false);
  expect(isKept((memory) => memory.forgetAll("c1/"))).toBe(false);
  expect(isKept((memory) => memory.forgetAll(""))).toBe(false);
  const forgetOthers = (memory: NarMemory, count: number) => {
    for (let i = 0; i < count; i++) memory.forget(`c1/other-${i}`);
  };
  expect(isKept((memory) => memory.forgetAll("c2/"))).toBe(true);
  expect(isKept((memory) => forgetOthers(memory, 1_000))).toBe(true);
  // Of more it is not known whether this one was among them.
  expect(isKept((memory) => forgetOthers(memory, 1_001))).toBe(false);
  const forgetAmong = (memory: NarMemory) => {
    forgetOthers(memory, 5);
    memory.forget("c1/one");
    forgetOthers(memory, 994);
  };
  expect(isKept(forgetAmong)).toBe(false);
});

test("where its file lies is known of a NAR for ten seconds, whatever else becomes known, and goes with it", () => {
  const { memory, put, pass } = withMemory({ ageMsMax: 60_000 });
  const tell = (name: string, generation = memory.generation) =>
    memory.setPath({ cacheId: "c1", name }, `/files/${name}`, generation);
  tell("a");
  put("c1", "a");
  expect(memory.pathOf("c1", "a")).toBeNull();
  tell("a");
  put("c1", "a", { bytes: 10 });
  expect(memory.pathOf("c1", "a")).toBe("/files/a");
  expect(memory.pathOf("c2", "a")).toBeNull();
  pass(9_999);
  expect(memory.pathOf("c1", "a")).toBe("/files/a");
  pass(1);
  expect(memory.pathOf("c1", "a")).toBeNull();

  put("c1", "b");
  const before = memory.generation;
  memory.forget("c1/path-a");
  tell("b", before);
  expect(memory.pathOf("c1", "b")).toBe("/files/b");
  memory.forget("c1/path-b");
  put("c1", "b");
  tell("b", before);
  expect(memory.pathOf("c1", "b")).toBeNull();
});

test("the ones used least recently go, by number and by bytes", () => {
  const { memory, put, known } = withMemory();
  for (const name of ["a", "b", "c"]) put("c1", name);
  memory.get("c1", "a");
  put("c1", "d");
  expect(known(["a", "b", "c", "d"])).toEqual(["a", "c", "d"]);
  put("c1", "e", { bytes: 1_500 });
  expect(known(["a", "c", "d", "e"])).toEqual(["d", "e"]);
});
