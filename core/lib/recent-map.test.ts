import { expect, test } from "vitest";
import { RecentMap } from "./recent-map.ts";

test("what was used last stays, in the order of use", () => {
  const map = new RecentMap<string>({ entriesMax: 3, bytesMax: 1_000 }, () => 1);
  for (const key of ["a", "b", "c"]) map.set(key, key);
  expect(map.get("a")).toBe("a");
  map.set("d", "d");
  map.set("c", "again");
  map.set("e", "e");
  expect(["a", "b", "c", "d", "e"].map((key) => map.get(key))).toEqual([undefined, undefined, "again", "d", "e"]);
  expect([...map.keys()].toSorted()).toEqual(["c", "d", "e"]);
  expect(map.size).toBe(3);
});

test("it does what a list in the order of use does", () => {
  const limits = { entriesMax: 12, bytesMax: 100 };
  const map = new RecentMap<number>(limits, (bytes) => bytes);
  let list: [key: string, bytes: number][] = [];
  const random = (below: number) => Math.floor(Math.random() * below);
  for (let step = 0; step < 20_000; step++) {
    const key = String(random(25));
    const known = list.find(([of]) => of === key);
    const others = list.filter(([of]) => of !== key);
    const action = random(10);
    if (action < 5) {
      expect(map.get(key)).toBe(known?.[1]);
      if (known) list = [...others, known];
    } else if (action < 9) {
      const bytes = random(110);
      map.set(key, bytes);
      list = others;
      const isFull = () => list.length >= limits.entriesMax || list.reduce((sum, [, of]) => sum + of, bytes) > 100;
      if (bytes > 100) continue;
      while (isFull()) list.shift();
      list.push([key, bytes]);
    } else {
      map.delete(key);
      list = others;
    }
    expect(map.size).toBe(list.length);
    expect([...map.keys()].toSorted()).toEqual(list.map(([of]) => of).toSorted());
  }
});
