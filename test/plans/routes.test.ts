import { afterAll, beforeAll, expect, test } from "vitest";
import { ROUTES } from "#core/api/openapi/routes.ts";
import type { ActorName } from "../contract/people.ts";
import { askingOf, exampleOf } from "../contract/requests.ts";
import { makeWorld, type World } from "../contract/world.ts";
import { BOUNDED_TABLES } from "./bounded.ts";
import { fillTables } from "./many-rows.ts";
import { findScans, isExplained, listPartialIndexes, type Statement } from "./scans.ts";

/** Routes of superusers that are about all there is. */
const OF_EVERYTHING: Readonly<Record<string, string>> = {
  "GET /admin/state": "gives all that the instance has been told",
  "GET /admin/integrity": "sums up what is stored, of all caches",
};

/** Everything that the routes have asked of the database, by its text, with the route that asked first. */
const asked = new Map<string, Statement & { readonly route: string }>();
let route = "";
let world: World;
beforeAll(async () => {
  world = await makeWorld({
    onStatement: (text, parameters) => {
      if (isExplained(text) && !asked.has(text)) asked.set(text, { text, parameters, route });
    },
  });
  for (const name of ROUTES.keys()) {
    route = name;
    const actors: readonly ActorName[] = [exampleOf(name, world.present).as ?? "admin", "anonymous", "superuser"];
    for (const actor of new Set(actors)) await world.ask(actor, askingOf(name, world.present));
  }
  await fillTables(world.db, BOUNDED_TABLES);
});
afterAll(() => world?.[Symbol.asyncDispose]());

test("no route reads a table whole that grows without bound", async () => {
  expect(asked.size).toBeGreaterThan(200);
  const partial = await listPartialIndexes(world.db);
  const wrong: string[] = [];
  for (const { route: first, ...statement } of asked.values()) {
    if (first in OF_EVERYTHING) continue;
    const scans = (await findScans(world.db, statement, partial)).filter((table) => !BOUNDED_TABLES.has(table));
    if (scans.length > 0) wrong.push(`${first} reads ${scans.join(", ")} whole: ${statement.text}`);
  }
  expect(wrong).toEqual([]);
});
