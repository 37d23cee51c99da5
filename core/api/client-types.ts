import type * as v from "valibot";
import { PATH_PARAMETERS } from "./openapi/parameters.ts";
import type { Answer } from "./openapi/route.ts";
import type { Routes } from "./openapi/routes.ts";

export interface ClientOptions {
  /** `https://ci.example.com` */
  readonly origin: string;
  /** A session's token or an API key, asked for before each request; null: none. */
  readonly token?: () => string | null;
  readonly fetch?: typeof globalThis.fetch;
}

/** The names of the routes with one kind of answer. */
export type RoutesThat<Kind extends Answer> = {
  [Name in keyof Routes]: Routes[Name]["answer"] extends Kind ? Name : never;
}[keyof Routes];

/** What a request to the route consists of. */
export type InputOf<Name extends keyof Routes> = PathPart<Name> &
  QueryPart<Routes[Name]> &
  BodyPart<Routes[Name]> &
  UploadPart<Routes[Name]> & { readonly signal?: AbortSignal };

/** Nothing need be given where nothing is needed. */
export type Inputs<Name extends keyof Routes> =
  Record<never, never> extends InputOf<Name> ? [input?: InputOf<Name>] : [input: InputOf<Name>];

type NamesIn<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}` ? Name | NamesIn<Rest> : never;

type PathPart<Name extends string> = [NamesIn<Name>] extends [never]
  ? unknown
  : { readonly path: { readonly [Parameter in NamesIn<Name>]: string | number } };

/** What the schema takes is text; a number or a boolean is written as such. */
type AsQuery<Fields> = { readonly [Field in keyof Fields]: Fields[Field] | number | boolean };

type QueryPart<Spec> = Spec extends { readonly query: infer Schema extends v.GenericSchema }
  ? OptionalWhenEmpty<"query", AsQuery<v.InferInput<Schema>>>
  : unknown;

type BodyPart<Spec> = Spec extends { readonly body: infer Schema extends v.GenericSchema }
  ? OptionalWhenEmpty<"body", v.InferInput<Schema>>
  : unknown;

type UploadPart<Spec> = Spec extends { readonly upload: unknown }
  ? { readonly upload: FormData | Blob | ArrayBuffer }
  : unknown;

type OptionalWhenEmpty<Key extends string, Value> =
  Record<never, never> extends Value ? { readonly [Name in Key]?: Value } : { readonly [Name in Key]: Value };

/** `/orgs/{organization}` with its names replaced by what they stand for. */
export function fillPath(template: string, values: Readonly<Record<string, string | number>>): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = String(values[name] ?? "");
    if (!PATH_PARAMETERS[name]?.whole) return encodeURIComponent(value);
    return value.split("/").map(encodeURIComponent).join("/");
  });
}

/** Nothing, or a question mark and what is not undefined. */
export function writeQuery(query: Readonly<Record<string, unknown>>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  return search.size === 0 ? "" : `?${search}`;
}
