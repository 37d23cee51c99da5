import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, expect, test } from "vitest";
import { CACHE_FILE_PARAMETERS, CACHE_FILES } from "#core/api/openapi/cache-surface.ts";
import { PATH_PARAMETERS, type PathParameter } from "#core/api/openapi/parameters.ts";
import { API_PREFIX } from "#core/api/openapi/prefix.ts";
import type { RouteName } from "#core/api/openapi/route.ts";
import { ROUTE_GROUPS, ROUTES } from "#core/api/openapi/routes.ts";
import { CACHE_PERMISSIONS, ORGANIZATION_PERMISSIONS } from "#core/domain/permissions.ts";
import { parsePutRoute } from "#core/http/cache-put-route.ts";
import { parseCacheRoute, type RouteKind } from "#core/http/cache-route.ts";
import { createApp } from "#handlers/app.ts";
import { signedIn } from "#handlers/middleware/signed-in.ts";
import { makeDocument } from "#scripts/openapi-document.ts";
import { withApp } from "#test/handlers/support.ts";
import { DOCUMENT, operationOf } from "./document.ts";

/** A route of the application: its method and path without the names, and whether it asks who is there at once. */
const served = new Map<string, { readonly path: string; readonly signedIn: boolean }>();

beforeAll(async () => {
  await using app = await withApp();
  const { routes } = createApp(app.deps);
  const guarded = routes.filter(({ handler }) => handler === signedIn);
  for (const { method, path } of routes) {
    if (method === "ALL" || !path.startsWith(`${API_PREFIX}/`)) continue;
    const guards = guarded.filter((one) => one.path === path && one.method === method);
    const wide = guarded.filter((one) => one.method === "ALL" && isBelow(path, one.path));
    served.set(shapeOf(`${method} ${path.slice(API_PREFIX.length)}`), {
      path: `${method} ${path}`,
      signedIn: guards.length + wide.length > 0,
    });
  }
});

function isBelow(path: string, pattern: string): boolean {
  return pattern.endsWith("/*") && `${path}/`.startsWith(pattern.slice(0, -1));
}

/** Names in a path count for nothing here: `{}` each. */
function shapeOf(route: string): string {
  return route.replaceAll(/:\w+(?:\{[^}]*\})?|\{\w+\}/g, "{}");
}

test("each route of the application is in core/api/openapi, and nothing else is", () => {
  const known = new Set([...ROUTES.keys()].map(shapeOf));
  const unknown = [...served].filter(([shape]) => !known.has(shape)).map(([, { path }]) => path);
  const advice = "add it to its group in core/api/openapi/, an example to test/contract/requests.ts and a row to";
  expect(unknown.map((path) => `${path} is in no document: ${advice} access-table.ts`)).toEqual([]);
  const gone = [...ROUTES.keys()].filter((name) => !served.has(shapeOf(name)));
  expect(gone.map((name) => `${name} is in core/api/openapi/, and no handler answers it`)).toEqual([]);
});

test("a route that says it is for users refuses nobody else later than at once", () => {
  const wrong = [...ROUTES].flatMap(([name, { audience }]) => {
    const atOnce = served.get(shapeOf(name))?.signedIn ?? false;
    if (atOnce === (audience === "user" || audience === "superuser")) return [];
    return [`${name} is for ${audience}, and its handler ${atOnce ? "asks" : "does not ask"} for a user at once`];
  });
  expect(wrong).toEqual([]);
});

test("no two groups tell of the same route, and each is under its own heading", () => {
  const names = ROUTE_GROUPS.flatMap(({ routes }) => Object.keys(routes));
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  const tags = ROUTE_GROUPS.map(({ tag }) => tag);
  expect(tags.length).toBe(new Set(tags).size);
});

test("permissions and parameters are those that exist, and each parameter is used", () => {
  const permissions: readonly string[] = [...ORGANIZATION_PERMISSIONS, ...CACHE_PERMISSIONS];
  const used = [...ROUTES.values()].flatMap((spec) => spec.permissions ?? []);
  expect(used.filter((permission) => !permissions.includes(permission))).toEqual([]);
  const parameters = new Set(
    [...ROUTES.keys()].flatMap((name) => [...name.matchAll(/\{(\w+)\}/g)].map(([, key]) => key)),
  );
  const declared: Readonly<Record<string, PathParameter>> = PATH_PARAMETERS;
  expect(Object.keys(declared).filter((name) => !parameters.has(name))).toEqual([]);
});

test("the files of a cache are those that the server knows, and each is where the document says", () => {
  const fill = (path: string) =>
    path.replaceAll(/\{(\w+)\}/g, (_, key: string) => CACHE_FILE_PARAMETERS[key]?.example ?? "");
  const read = CACHE_FILES.map(({ path }) => parseCacheRoute(`/cache/main/${fill(path)}`, "")?.kind);
  expect(CACHE_FILES.filter((_, index) => read[index] === undefined).map(({ path }) => path)).toEqual([]);
  const kinds: Record<RouteKind, true> = {
    info: true,
    gradientInfo: true,
    narinfo: true,
    listing: true,
    nar: true,
    relayedNar: true,
    log: true,
    debugInfo: true,
    realisation: true,
    file: true,
  };
  expect(Object.keys(kinds).filter((kind) => !read.includes(kind as RouteKind))).toEqual([]);
  const pushed = CACHE_FILES.filter(({ path }) => parsePutRoute(`/cache/main/${fill(path)}`) !== null);
  const promised = CACHE_FILES.filter(({ put }) => put !== undefined);
  expect(promised.map(({ path }) => path)).toEqual(
    pushed.filter(({ path }) => !path.startsWith("debuginfo/")).map(({ path }) => path),
  );
});

test("docs/openapi.json is what the sources say: `npm run openapi` writes it anew", async () => {
  expect(DOCUMENT).toEqual(await makeDocument());
});

test("what the document refers to is there, and its schemas are JSON Schema 2020-12", () => {
  const references = [...JSON.stringify(DOCUMENT).matchAll(/"\$ref":"([^"]+)"/g)].map(
    ([, reference = ""]) => reference,
  );
  const found = (reference: string) =>
    reference
      .slice(2)
      .split("/")
      .reduce<unknown>((place, key) => (place as Record<string, unknown> | undefined)?.[key], DOCUMENT);
  expect(references.length).toBeGreaterThan(500);
  expect(references.filter((reference) => !reference.startsWith("#/") || found(reference) === undefined)).toEqual([]);
  const ajv = new Ajv2020({ strict: false });
  const { schemas, responses } = DOCUMENT.components;
  const wrong = Object.entries(schemas).filter(([, schema]) => !ajv.validateSchema(schema));
  expect(wrong.map(([name]) => name)).toEqual([]);
  // A component that nothing refers to is left over.
  const used = new Set(references.map((reference) => reference.slice(reference.lastIndexOf("/") + 1)));
  expect([...Object.keys(schemas), ...Object.keys(responses)].filter((name) => !used.has(name))).toEqual([]);
});

test("each operation has an id of its own, a summary, and says what credentials it takes", () => {
  const operations = [...ROUTES.keys()].map((name) => [name, operationOf(name as RouteName)] as const);
  expect(operations.filter(([, operation]) => !operation?.security).map(([name]) => name)).toEqual([]);
  const ids = operations.map(([, operation]) => operation?.operationId);
  expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
});
