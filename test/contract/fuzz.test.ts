import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RouteName } from "#core/api/openapi/route.ts";
import { ROUTES } from "#core/api/openapi/routes.ts";
import { anything, arbitraryOf, nodeOf, rawJson } from "./arbitrary.ts";
import { checkAnswer } from "./document.ts";
import { askingOf, type Example, exampleOf } from "./requests.ts";
import { type Asking, makeWorld, type World } from "./world.ts";

/** For each route. */
const BODIES = 10;
const QUERIES = 8;
const PATHS = 4;

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => world?.[Symbol.asyncDispose]());

/** The route's example, with one name in its path replaced by a word as it is. */
async function expectWord(name: RouteName, at: string, word: string): Promise<void> {
  const mark = "PLACE-OF-THE-WORD";
  const example = exampleOf(name, world.present);
  const asking = askingOf(name, world.present, { path: { ...example.path, [at]: mark } });
  await expectAnswer(name, example.as, { ...asking, path: asking.path.replace(mark, word) });
}

const JSON_TYPE = { "content-type": "application/json" };

/** Bodies of which most reach the service: those of the example with something else in some place. */
function bodiesOf(name: RouteName): fc.Arbitrary<string> {
  const schema = ROUTES.get(name)?.body;
  const example = exampleOf(name, world.present).body ?? {};
  const fields = fc.constantFrom(...Object.keys(example), "__proto__", "constructor", "more");
  const changed = fc.dictionary(fields, anything, { minKeys: 1, maxKeys: 2 });
  const written = (value: unknown) => JSON.stringify(value) ?? "";
  return fc.oneof(
    { weight: 3, arbitrary: changed.map((some) => written({ ...example, ...some })) },
    { weight: 3, arbitrary: (schema ? arbitraryOf(nodeOf(schema)) : anything).map(written) },
    { weight: 2, arbitrary: rawJson },
  );
}

async function expectAnswer(name: RouteName, as: Example["as"], asking: Asking): Promise<void> {
  const response = await world.ask(as ?? "admin", asking);
  const { problems, text } = await checkAnswer(name, response);
  expect([name, asking.path, response.status, text]).toSatisfy(([, , status]) => Number(status) < 500);
  // A path with dots is that of another route.
  if (!asking.path.includes("%2e")) expect(problems).toEqual([]);
}

test("no body makes a server error, and every answer is in the document", async () => {
  for (const [name, { body }] of ROUTES) {
    if (!body) continue;
    const example = exampleOf(name, world.present);
    const asking = askingOf(name, world.present);
    const sends = fc.asyncProperty(bodiesOf(name), (sent) =>
      expectAnswer(name, example.as, { ...asking, body: new TextEncoder().encode(sent), headers: JSON_TYPE }),
    );
    await fc.assert(sends, { numRuns: BODIES });
  }
});

test("no query makes a server error, and every answer is in the document", async () => {
  for (const [name, { query }] of ROUTES) {
    if (!query) continue;
    const example = exampleOf(name, world.present);
    const { path, ...asking } = askingOf(name, world.present);
    const [bare = ""] = path.split("?");
    const names = fc.constantFrom(...Object.keys(nodeOf(query).entries ?? nodeOf(query).pipe?.[0]?.entries ?? {}), "x");
    const values = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("\0", "-1", "1e9", "999999999", "0", "NaN"));
    const sends = fc.asyncProperty(fc.dictionary(names, values, { maxKeys: 3 }), async (fields) => {
      const wellFormed = Object.entries(fields).map(([key, value]) => [key, value.toWellFormed()]);
      const search = new URLSearchParams({ ...example.query, ...Object.fromEntries(wellFormed) });
      await expectAnswer(name, example.as, { ...asking, path: `${bare}?${search}` });
    });
    await fc.assert(sends, { numRuns: QUERIES });
  }
});

test("no path makes a server error, and every answer is in the document", async () => {
  const hostile = ["%00", "%ff", "%", "..%2f..", "%2e%2e", "-", "x".repeat(4_000), "%F0%9D%92%B3", "'", "1".repeat(32)];
  for (const [name] of ROUTES) {
    const parameters = [...name.matchAll(/\{(\w+)\}/g)].map(([, key = ""]) => key);
    if (parameters.length === 0) continue;
    for (const at of parameters) await expectWord(name, at, "%00");
    const change = fc.record({ at: fc.constantFrom(...parameters), word: fc.constantFrom(...hostile) });
    await fc.assert(
      fc.asyncProperty(change, ({ at, word }) => expectWord(name, at, word)),
      { numRuns: PATHS },
    );
  }
});
