import { expect, test } from "vitest";
import { PathChanges } from "./path-changes.ts";

function addOthers(changes: PathChanges, count: number, from = 0): void {
  for (let i = from; i < from + count; i++) changes.add(`c1/other-${i}`);
}

test("a change is told of its path, its cache and everything, since it happened", () => {
  const changes = new PathChanges();
  const isTold = (subject: string) => {
    const { generation } = changes;
    changes.add(subject);
    const told = changes.areSince("c1/one", generation);
    expect(changes.areSince("c1/one", changes.generation)).toBe(false);
    return told;
  };
  expect(["c1/one", "c1/", ""].map(isTold)).toEqual([true, true, true]);
  expect(["c1/two", "c2/one", "c2/", "c1/one/"].map(isTold)).toEqual([false, false, false, false]);
});

test("changes of others hide none", () => {
  const changes = new PathChanges();
  addOthers(changes, 12_000);
  const { generation } = changes;
  addOthers(changes, 16_000, 12_000);
  changes.add("c1/one");
  addOthers(changes, 10_000, 28_000);
  expect(changes.areSince("c1/one", generation)).toBe(true);
  expect(changes.areSince("c1/two", generation)).toBe(false);
});

test("of more changes than are known it is not known whether a path is among them", () => {
  const changes = new PathChanges();
  const { generation } = changes;
  addOthers(changes, 20_000);
  expect(changes.areSince("c1/one", generation)).toBe(false);
  addOthers(changes, 40_000, 20_000);
  expect(changes.areSince("c1/one", generation)).toBe(true);
  const later = changes.generation;
  for (let i = 0; i < 100_000; i++) changes.add("c1/again");
  expect(changes.areSince("c1/one", later), "the same one over and over").toBe(false);
});
