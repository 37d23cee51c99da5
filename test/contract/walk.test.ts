import type * as v from "valibot";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ROUTES } from "#core/api/openapi/routes.ts";
import type * as parse from "#handlers/parse.ts";
import { checkAnswer } from "./document.ts";
import { askingOf, exampleOf } from "./requests.ts";
import { makeWorld, type World } from "./world.ts";

/** By which schemas the handler read the last request. */
const { read } = vi.hoisted(() => ({ read: new Set<unknown>() }));
vi.mock("#handlers/parse.ts", async (original) => {
  const actual = await original<typeof parse>();
  return {
    ...actual,
    readJson: (...[c, schema]: Parameters<typeof actual.readJson>) => {
      read.add(schema);
      return actual.readJson(c, schema);
    },
    readQuery: (...[c, schema]: Parameters<typeof actual.readQuery>) => {
      read.add(schema);
      return actual.readQuery(c, schema);
    },
  };
});

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => world?.[Symbol.asyncDispose]());

test("each route does what it is for, and answers as the document says", async () => {
  const wrong: string[] = [];
  for (const name of ROUTES.keys()) {
    const example = exampleOf(name, world.present);
    read.clear();
    const response = await world.ask(example.as ?? "admin", askingOf(name, world.present));
    const found = await checkAnswer(name, response);
    const { answer, body, query } = ROUTES.get(name) ?? {};
    const wanted = example.refused ?? (answer && "status" in answer ? answer.status : 200);
    if (response.status !== wanted) wrong.push(`${name}: ${response.status} instead of ${wanted}: ${found.text}`);
    wrong.push(...found.problems.map((problem) => `${name}: ${problem}`));
    wrong.push(...differences(name, [body, query]));
  }
  expect(wrong).toEqual([]);
});

/** A request is read by the schemas that the document is written from, by all of them and by no others. */
function differences(name: string, promised: readonly (v.GenericSchema | undefined)[]): string[] {
  const missed = promised.filter((schema) => schema !== undefined && !read.has(schema));
  const others = [...read].filter((schema) => !promised.includes(schema as v.GenericSchema));
  return [
    ...missed.map(() => `${name}: the document has a schema by which the handler read nothing`),
    ...others.map(() => `${name}: the handler reads by a schema that the document does not have`),
  ];
}

test("each route refuses as the document says", async () => {
  const wrong: string[] = [];
  for (const name of ROUTES.keys()) {
    const example = exampleOf(name, world.present);
    for (const [actor, things] of [
      ["anonymous", world.present],
      ["stranger", world.present],
      ["expired", world.present],
      ["elsewhere", world.present],
      [example.as ?? "admin", world.absent],
    ] as const) {
      const response = await world.ask(actor, askingOf(name, things));
      const { problems } = await checkAnswer(name, response);
      wrong.push(...problems.map((problem) => `${name} as ${actor}: ${problem}`));
    }
  }
  expect(wrong).toEqual([]);
});
