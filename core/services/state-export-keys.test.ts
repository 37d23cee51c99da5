import fc from "fast-check";
import { expect, test } from "vitest";
import { distinctKeys } from "./state-export-keys.ts";

test("things of one name have longer keys, and the others keep theirs", () => {
  const entries = [
    { keys: ["web", "acme-web"], value: 1 },
    { keys: ["web", "globex-web"], value: 2 },
    { keys: ["acme-web", "globex-acme-web"], value: 3 },
    { keys: ["docs", "acme-docs"], value: 4 },
  ] as const;
  expect(distinctKeys(entries)).toEqual({ "acme-web": 3, "acme-web-2": 1, docs: 4, "globex-web": 2 });
});

test("no entry is ever lost", () => {
  const name = fc.constantFrom("a", "b", "a-b", "b-a", "a-2", "a-b-2");
  fc.assert(
    fc.property(fc.array(fc.tuple(name, name), { maxLength: 12 }), (pairs) => {
      const entries = pairs.map((keys, value) => ({ keys, value }));
      expect(Object.values(distinctKeys(entries)).sort()).toEqual(entries.map(({ value }) => value).sort());
    }),
  );
});
