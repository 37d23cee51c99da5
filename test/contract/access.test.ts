import { afterAll, beforeAll, expect, test } from "vitest";
import type { RouteName } from "#core/api/openapi/route.ts";
import { ROUTES } from "#core/api/openapi/routes.ts";
import { ACCESS_TABLE, COLUMNS } from "./access-table.ts";
import { PUBLIC } from "./names.ts";
import { ACTORS, type ActorName } from "./people.ts";
import { askingOf, EXAMPLES } from "./requests.ts";
import { makeWorld, type World } from "./world.ts";

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => world?.[Symbol.asyncDispose]());

type Expected = ReadonlyMap<ActorName, string>;

/** Who asks here knows the first thing; what is hidden is the other one: the cache, or the organization in the body. */
const TELLS: ReadonlySet<string> = new Set([
  "POST /orgs/{organization}/subscribe/{cache}",
  "POST /projects/{organization}/{project}/transfer",
]);

/** The rows of the table by their routes. */
function readTable(): ReadonlyMap<string, Expected> {
  const [head = "", ...rows] = ACCESS_TABLE.trim().split("\n");
  const actors = cellsOf(head).map((column) => COLUMNS[column] as ActorName);
  expect([...actors].sort()).toEqual([...ACTORS].sort());
  return new Map(
    rows.map((row) => {
      const cells = cellsOf(row);
      expect([row, cells.length]).toEqual([row, actors.length]);
      return [routeOf(row), new Map(actors.map((actor, index) => [actor, cells[index] ?? ""]))];
    }),
  );
}

function cellsOf(row: string): string[] {
  return row.split(/ +/).slice(row.startsWith("route") ? 1 : 2);
}

function routeOf(row: string): string {
  return row.split(/ +/).slice(0, 2).join(" ");
}

interface Seen {
  readonly status: number;
  readonly text: string;
  readonly headers: string;
}

async function see(as: ActorName, name: RouteName, things: Readonly<Record<string, string>>): Promise<Seen> {
  const response = await world.ask(as, askingOf(name, things));
  const headers = [...response.headers].filter(([header]) => header !== "x-request-id" && !isOfTheMoment(header));
  return { status: response.status, text: await response.text(), headers: JSON.stringify(headers) };
}

/** What is left of a bucket of requests, say, differs from one request to the next. */
function isOfTheMoment(header: string): boolean {
  return header === "date" || header.startsWith("ratelimit") || header.startsWith("x-ratelimit");
}

test("the table has a row for each route, and no other", () => {
  expect([...readTable().keys()].sort()).toEqual([...ROUTES.keys()].sort());
});

test("everyone gets of each route what the table says, and the hidden looks as the absent, byte for byte", async () => {
  const wrong: string[] = [];
  for (const [name, row] of readTable()) {
    const success = String(EXAMPLES[name]?.refused ?? "2");
    for (const [actor, expected] of row) {
      const seen = await see(actor, name as RouteName, world.present);
      const isExpected = expected === "ok" ? String(seen.status).startsWith(success) : seen.status === Number(expected);
      if (!isExpected) wrong.push(`${name} as ${actor}: ${seen.status}, not ${expected}: ${seen.text.slice(0, 150)}`);
      const mustHide = expected === "404" || (expected === "401" && actor === "anonymous");
      if (!mustHide || !name.includes("{") || TELLS.has(name)) continue;
      const absent = await see(actor, name as RouteName, world.absent);
      if (JSON.stringify(absent) !== JSON.stringify(seen)) {
        wrong.push(`${name} as ${actor} tells that there is something: ${seen.text} instead of ${absent.text}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test("who is no member reads what is public, and changes nothing of it", async () => {
  const wrong: string[] = [];
  const routes = [...ROUTES].filter(([name]) => /^\w+ \/(orgs|caches|projects)\/\{(organization|cache)\}/.test(name));
  const isOwn = (name: string) => [...name.matchAll(/\{(\w+)\}/g)].every(([, key = ""]) => key in PUBLIC);
  for (const [name, { audience }] of routes.filter(([route]) => isOwn(route))) {
    for (const actor of ["anonymous", "stranger", "expired"] as const) {
      const { status, text } = await see(actor, name, { ...world.present, ...PUBLIC });
      const refused = actor === "stranger" ? 404 : 401;
      const expected = audience === "reader" ? 200 : refused;
      if (status !== expected) wrong.push(`${name} as ${actor}: ${status}, not ${expected}: ${text}`);
    }
  }
  expect(routes.length).toBeGreaterThan(20);
  expect(wrong).toEqual([]);
});
