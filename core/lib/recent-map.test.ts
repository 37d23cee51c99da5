import { expect, test } from "vitest";
import { RecentMap } from "./recent-map.ts";

function numbersUpTo(count: number): string[] {
  return Array.from({ length: count }, (_, index) => String(index));
}

test("what is used again stays, and what is not makes room for what is new", () => {
  const map = new RecentMap<string>({ entriesMax: 20, bytesMax: 1_000 }, () => 1);
  for (const key of ["used", "looked at", "not used"]) map.set(key, key);
  for (const key of numbersUpTo(100)) {
    map.set(key, key);
    expect(map.get("used")).toBe("used");
    map.peek("looked at");
    expect(map.size).toBeLessThanOrEqual(20);
  }
  expect([map.get("looked at"), map.get("not used"), map.get("0")]).toEqual([undefined, undefined, undefined]);
  expect(map.keys().toSorted()).toContain("99");
  expect(map.keys()).toHaveLength(map.size);
});

test("it never holds more bytes than its limit, also when the same is set again and again", () => {
  const map = new RecentMap<number>({ entriesMax: 1_000, bytesMax: 100 }, (bytes) => bytes);
  for (let i = 0; i < 1_000; i++) {
    map.set(String(i % 7), 10 + (i % 11));
    const bytes = map.keys().reduce((sum, key) => sum + (map.peek(key) ?? 0), 0);
    expect(bytes).toBeLessThanOrEqual(100);
  }
  expect(map.size).toBeGreaterThan(3);
});

test("what is more than half of the limit is not kept, and what was there under its key neither", () => {
  const map = new RecentMap<number>({ entriesMax: 10, bytesMax: 100 }, (bytes) => bytes);
  map.set("a", 50);
  map.set("b", 50);
  map.set("a", 51);
  expect(map.keys()).toEqual(["b"]);
});

test("what was deleted takes no room", () => {
  const map = new RecentMap<number>({ entriesMax: 10, bytesMax: 100 }, (bytes) => bytes);
  map.set("kept", 10);
  for (const key of numbersUpTo(100)) {
    map.set(key, 40);
    map.delete(key);
    map.delete(key);
  }
  expect(map.keys()).toEqual(["kept"]);
});
