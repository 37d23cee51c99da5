import { afterAll, beforeAll, expect, test } from "vitest";
import type { RouteName } from "#core/api/openapi/route.ts";
import { ROUTES } from "#core/api/openapi/routes.ts";
import { checkAnswer } from "./document.ts";
import { askingOf, type Example, examplesOf } from "./requests.ts";
import { makeWorld, type World } from "./world.ts";

let world: World;
let examples: Readonly<Record<string, Example>>;
beforeAll(async () => {
  world = await makeWorld();
  examples = examplesOf(world);
});
afterAll(() => world?.[Symbol.asyncDispose]());

test("each route does what it is for, and answers as the document says", async () => {
  const wrong: string[] = [];
  for (const name of ROUTES.keys()) {
    const example = examples[name] ?? {};
    const response = await world.ask(example.as ?? "admin", askingOf(name, example, world.present));
    const found = await checkAnswer(name, response);
    const { answer } = ROUTES.get(name) ?? {};
    const wanted = example.refused ?? (answer && "status" in answer ? answer.status : 200);
    if (response.status !== wanted) wrong.push(`${name}: ${response.status} instead of ${wanted}: ${found.text}`);
    wrong.push(...found.problems.map((problem) => `${name}: ${problem}`));
  }
  expect(wrong).toEqual([]);
});

test("each route refuses as the document says", async () => {
  const wrong: string[] = [];
  for (const name of ROUTES.keys()) {
    const example = examples[name] ?? {};
    for (const [actor, things] of [
      ["anonymous", world.present],
      ["stranger", world.present],
      ["expired", world.present],
      ["elsewhere", world.present],
      [example.as ?? "admin", world.absent],
    ] as const) {
      const response = await world.ask(actor, askingOf(name, example, things));
      const { problems } = await checkAnswer(name as RouteName, response);
      wrong.push(...problems.map((problem) => `${name} as ${actor}: ${problem}`));
    }
  }
  expect(wrong).toEqual([]);
});
