import type { Kysely } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RouteName } from "#core/api/openapi/route.ts";
import { ROUTES } from "#core/api/openapi/routes.ts";
import type { Database } from "#core/db/schema.ts";
import { CACHE_PERMISSIONS, cacheMask, ORGANIZATION_PERMISSIONS, organizationMask } from "#core/domain/permissions.ts";
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

/** Where one who lacks the permission is refused for another reason, or not at all. */
const OTHERWISE: Readonly<Record<string, string>> = {
  "POST /orgs/{organization}/subscribe/{cache}": "the other cache is not there for who is no member of it",
  "POST /build-requests/{request}/blobs": "the request is somebody else's",
  "POST /build-requests/{request}/dispatch": "the request is somebody else's",
  "GET /caches/{cache}/members": "members of an organization that reads the cache may view it",
  "GET /caches/{cache}/roles": "members of an organization that reads the cache may view it",
  "GET /caches/{cache}/roles/{role}": "members of an organization that reads the cache may view it",
};

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

test("the permission that the document names is the one that is asked for, and no other is", async () => {
  const wrong: string[] = [];
  for (const [name, { permissions = [] }] of ROUTES) {
    const asking = askingOf(name, world.present);
    const askWith = async (held: readonly string[]): Promise<Seen> => {
      const response = await world.ask("custom", asking, (db) => giveCustomRoles(db, held));
      return { status: response.status, text: await response.text(), headers: "" };
    };
    for (const permission of permissions) {
      const { status, text } = await askWith(EVERY_PERMISSION.filter((one) => one !== permission));
      const isRefused = status === 403 && text.includes(`\`${permission}\``);
      if (!isRefused && !(name in OTHERWISE))
        wrong.push(`${name} without ${permission}: ${status} ${text.slice(0, 150)}`);
    }
    if (permissions.length === 0) continue;
    const { text } = await askWith(["viewOrg", "viewCache", "readStore", ...permissions]);
    const [, missing] = /needs the permission `(\w+)`/.exec(text) ?? [];
    if (missing !== undefined) wrong.push(`${name} also asks for ${missing}: ${text.slice(0, 150)}`);
  }
  expect(wrong).toEqual([]);
});

const EVERY_PERMISSION: readonly string[] = [...ORGANIZATION_PERMISSIONS, ...CACHE_PERMISSIONS];

async function giveCustomRoles(db: Kysely<Database>, held: readonly string[]): Promise<void> {
  const organization = organizationMask(ORGANIZATION_PERMISSIONS.filter((one) => held.includes(one)));
  const cache = cacheMask(CACHE_PERMISSIONS.filter((one) => held.includes(one)));
  const { role = "", cacheRole = "" } = world.present;
  await db.updateTable("role").set({ permissions: organization }).where("id", "=", role).execute();
  await db.updateTable("cache_role").set({ permissions: cache }).where("id", "=", cacheRole).execute();
}
