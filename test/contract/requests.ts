import type { RouteName } from "#core/api/openapi/route.ts";
import type { Routes } from "#core/api/openapi/routes.ts";
import { ACCOUNTS_EXAMPLES } from "./examples-accounts.ts";
import { BUILDS_EXAMPLES } from "./examples-builds.ts";
import { CACHES_EXAMPLES } from "./examples-caches.ts";
import { ORGANIZATIONS_EXAMPLES } from "./examples-organizations.ts";
import { PROJECTS_EXAMPLES } from "./examples-projects.ts";
import type { ActorName } from "./people.ts";
import type { Things } from "./things.ts";
import type { Asking } from "./world.ts";

/**
 * A request that does what its route is for, in the world of these tests. A text that begins with a dollar sign is the
 * name of something in that world.
 */
export interface Example {
  /** Who may; without it the admin of the organization and the cache. */
  readonly as?: ActorName;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** The parts of a form, or bytes. */
  readonly form?: Readonly<Record<string, string>>;
  readonly bytes?: Uint8Array<ArrayBuffer>;
  /** What stands in the path, where it is not what the world has under that name. */
  readonly path?: Readonly<Record<string, string>>;
  /** The status, where the world lacks what success would take: a repository, storage with URLs, a second instance. */
  readonly refused?: number;
}

/** One for each route: where one is missing, this does not compile. */
export const EXAMPLES: Readonly<Record<keyof Routes, Example>> & Readonly<Record<string, Example>> = {
  ...ACCOUNTS_EXAMPLES,
  ...ORGANIZATIONS_EXAMPLES,
  ...PROJECTS_EXAMPLES,
  ...BUILDS_EXAMPLES,
  ...CACHES_EXAMPLES,
};

/** A route's example, with the names in it replaced by what they stand for. */
export function exampleOf(route: RouteName, things: Things): Example {
  return named(EXAMPLES[route] ?? {}, things) as Example;
}

function named(value: unknown, things: Things): unknown {
  if (typeof value === "string") return value.startsWith("$") ? things[value.slice(1)] : value;
  if (Array.isArray(value)) return value.map((item) => named(item, things));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [named(key, things), named(inner, things)]));
}

/** The request of an example, with the names in its path replaced by those of things that exist, or do not. */
export function askingOf(route: RouteName, things: Things, changes: Partial<Example> = {}): Asking {
  const { path = {}, query, body, form, bytes } = { ...exampleOf(route, things), ...changes };
  const [method = "", template = ""] = route.split(" ");
  const values = { ...things, ...path };
  const filled = template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${route}: the world of the tests has no {${name}}`);
    return encodeURIComponent(value);
  });
  const search = query ? `?${new URLSearchParams(query)}` : "";
  const asking = { method, path: `${filled}${search}` };
  if (form) return { ...asking, body: formOf(form) };
  if (bytes) return { ...asking, body: bytes, headers: { "content-type": "application/octet-stream" } };
  if (body === undefined) return asking;
  return { ...asking, body: JSON.stringify(body), headers: { "content-type": "application/json" } };
}

function formOf(parts: Readonly<Record<string, string>>): FormData {
  const data = new FormData();
  for (const [name, text] of Object.entries(parts)) {
    if (name === "narinfo") data.append(name, text);
    else data.append(name, new Blob([text]), name);
  }
  return data;
}
