import { expect, test } from "vitest";
import { heapBytesOfEach } from "#test/support/heap.ts";
import { encodeBase32 } from "../nix/base32.ts";
import { type NarInfo, printNarInfo } from "../nix/narinfo.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { Nar } from "../services/nar.ts";
import { NarMemory } from "./nar-memory.ts";
import type { NarHint } from "./narinfo-memory.ts";

const HASH = { algorithm: "sha256", digest: new Uint8Array(32) } as const;
const NAR: Nar = { narHash: HASH, narSize: 9, fileHash: HASH, fileSize: 9, compression: "zstd", objectKey: "nar/aa/1" };
const NAME = encodeBase32(HASH.digest);
const NARINFO: NarInfo = {
  storePath: `/nix/store/${"a".repeat(32)}-hello` as StorePath,
  url: `nar/${NAME}.nar.zst`,
  compression: "zstd",
  fileHash: HASH,
  fileSize: 9,
  narHash: HASH,
  narSize: 8,
  references: [],
  deriver: null,
  signatures: [],
  ca: null,
};
const LIMITS = { entriesMax: 10, bytesMax: 40_000, ageMsMax: 1_000 };

function withMemory(limits: Partial<typeof LIMITS> = {}) {
  let now = 0;
  const clock = { now: () => now, monotonic: () => now, schedule: () => () => {} };
  const told = new Map<string, NarHint>();
  const memory = new NarMemory(
    clock,
    { ofNar: (cacheId, name) => told.get(`${cacheId}/${name}`) },
    { ...LIMITS, ...limits },
  );
  /** As a narinfo does. */
  const tell = (narInfo: NarInfo, { name = NAME, generation = memory.generation } = {}) =>
    told.set(`c1/${name}`, {
      narInfo: printNarInfo(narInfo),
      objectKey: "nar/aa/1",
      generation,
      expiresAt: now + LIMITS.ageMsMax,
    });
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
  return { memory, put, tell, known, pass };
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
  expect(isKept((memory) => memory.forgetAll("c2/"))).toBe(true);
  expect(isKept((memory) => memory.forget("c1/two"))).toBe(true);
});

test("what a narinfo told of its NAR is known as if it had been looked up, and forgotten with its path", () => {
  const { memory, tell, pass } = withMemory();
  const isKnown = () => memory.get("c1", NAME) !== undefined;
  tell(NARINFO);
  const pathHash = "a".repeat(32);
  expect(memory.get("c1", NAME)).toMatchObject({ nar: { ...NAR, narSize: 8 }, pathHash, name: NAME, file: null });
  memory.forget(`c1/${pathHash}`);
  expect(isKnown()).toBe(false);

  const before = memory.generation;
  tell(NARINFO);
  memory.forget("c1/other");
  expect(isKnown()).toBe(true);
  memory.forget(`c1/${pathHash}`);
  tell(NARINFO, { generation: before });
  expect(isKnown()).toBe(false);

  tell(NARINFO);
  pass(999);
  expect(isKnown()).toBe(true);
  // It is as old as the narinfo that told of it.
  pass(1);
  expect(isKnown()).toBe(false);
  tell(NARINFO);
  pass(999);
  expect(isKnown()).toBe(true);
});

test("a NAR that was read keeps nothing of its narinfo's text", () => {
  const references = Array.from(
    { length: 200 },
    (_, index) => `/nix/store/${"b".repeat(32)}-lib-${index}` as StorePath,
  );
  const each = heapBytesOfEach(2_000, () => {
    let narInfo = "";
    const memory = new NarMemory(
      { now: () => 0, monotonic: () => 0, schedule: () => () => {} },
      { ofNar: () => ({ narInfo, objectKey: narInfo.slice(-20), generation: 0, expiresAt: 1 }) },
    );
    for (let i = 0; i < 2_000; i++) {
      narInfo = printNarInfo({ ...NARINFO, narSize: i + 1, references });
      expect(memory.get("c1", `${NAME}${i}`)?.nar.narSize).toBe(i + 1);
    }
    return memory;
  });
  // The text has 8,500.
  expect(each).toBeLessThan(3_000);
});

test("a narinfo that cannot be read is none", () => {
  const { memory, tell } = withMemory();
  for (const wrong of [{ signatures: ["bodiless:"] }, { fileHash: null }, { fileSize: null }]) {
    tell({ ...NARINFO, ...wrong });
    expect(memory.get("c1", NAME)).toBeUndefined();
    expect(memory.pathOf("c1", NAME)).toBeNull();
  }
});

test("what is known of a NAR outlives what its narinfo tells again, unless its path was forgotten", () => {
  const { memory, tell } = withMemory();
  const pathHash = "a".repeat(32);
  const file = new Uint8Array(9);
  memory.put({ cacheId: "c1", name: NAME }, { nar: NAR, name: NAME, pathHash, file }, memory.generation);
  tell(NARINFO);
  expect(memory.get("c1", NAME)?.file).toBe(file);
  memory.forget(`c1/${pathHash}`);
  tell(NARINFO);
  expect(memory.get("c1", NAME)?.file).toBeNull();
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
  const { memory, put, known } = withMemory({ entriesMax: 3 });
  for (const name of ["a", "b", "c"]) put("c1", name);
  memory.get("c1", "a");
  put("c1", "d");
  expect(known(["a", "b", "c", "d"])).toEqual(["a", "c", "d"]);
  put("c1", "e", { bytes: 37_000 });
  expect(known(["a", "c", "d", "e"])).toEqual(["d", "e"]);
});
