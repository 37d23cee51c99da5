import fc from "fast-check";
import { expect, test } from "vitest";
import { describeProblem, STATE_SECTIONS } from "#core/api/state.ts";
import { checkState } from "#core/services/state-check.ts";
import { everything, type Json, RULES } from "./support.ts";

/** Every place in a file, as the keys that lead to it. */
function places(value: Json, path: readonly string[] = []): string[][] {
  const own = typeof value === "object" && value !== null ? Object.keys(value) : [];
  return [[...path], ...own.flatMap((key) => places(value[key], [...path, key]))];
}

function put(file: Json, path: readonly string[], value: Json): Json {
  const [key, ...rest] = path;
  // A copy: one value may come to stand in itself otherwise.
  if (key === undefined) return structuredClone(value);
  if (typeof file !== "object" || file === null) return file;
  file[key] = put(file[key], rest, value);
  return file;
}

test("whatever a file holds in whatever place, the answer is a list of problems with a path each", () => {
  const all = places(everything());
  const words = fc.constantFrom<Json>(
    "alice",
    "acme",
    "main",
    "deployer",
    "__proto__",
    "constructor",
    "",
    "\0",
    -1,
    {},
  );
  const mistake = fc.tuple(
    fc.constantFrom(...all),
    fc.oneof(words, fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<Json>),
  );
  fc.assert(
    fc.property(fc.array(mistake, { minLength: 1, maxLength: 5 }), (mistakes) => {
      let file = everything();
      for (const [path, value] of mistakes) file = put(file, path, value);
      for (const problem of checkState(JSON.parse(JSON.stringify(file)), RULES).problems) {
        expect(describeProblem(problem)).toMatch(/\S/);
        expect(problem.message).not.toMatch(/undefined|\[object|Invalid (?:type|key)/);
      }
    }),
    { numRuns: 500 },
  );
});

test("any JSON at all is answered", () => {
  const sections = fc.dictionary(fc.constantFrom(...STATE_SECTIONS, "x"), fc.dictionary(fc.string(), fc.jsonValue()));
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), sections), (json) => {
      expect(() => checkState(json, RULES)).not.toThrow();
    }),
    { numRuns: 500 },
  );
});
