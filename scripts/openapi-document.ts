import * as v from "valibot";
import { PATH_PARAMETERS, type ParameterForm } from "#core/api/openapi/parameters.ts";
import { API_PREFIX } from "#core/api/openapi/prefix.ts";
import type { Answer, FileAnswer, RouteName, RouteSpec } from "#core/api/openapi/route.ts";
import { ROUTE_GROUPS } from "#core/api/openapi/routes.ts";
import { ERROR_STATUS } from "#core/http/envelope.ts";
import { CACHE_TAG, cachePaths } from "./openapi-cache.ts";
import { errorsOf, failureResponses } from "./openapi-failures.ts";
import { findSchemaNames, type NamedSchema, queryParameters, requestSchema } from "./openapi-requests.ts";
import { openTypeReader, type Schema, type TypeReader } from "./openapi-types.ts";

/** What the document is written from. */
interface Sources {
  readonly types: TypeReader;
  readonly answers: ReadonlyMap<string, Schema>;
  readonly names: ReadonlyMap<unknown, NamedSchema>;
  /** Grows: what is used by name. */
  readonly schemas: Map<string, Schema>;
  readonly responses: Map<string, Schema>;
}

const DESCRIPTION =
  `Every answer but files, streams and redirects is an envelope: \`{"error": false, "message": …}\`, or
\`{"error": true, "code": …, "message": …}\` with a code of a closed list and a text for people. What one may not see
looks exactly like what does not exist. Lists that are pages take \`page\` (from 1) and \`per_page\` (50, at most 100).
Ids are UUIDs, names stand in paths. Times without a zone are UTC. Each answer has the header \`x-request-id\`, under
which the server's log holds more. Unknown fields of a request are ignored.`.replaceAll("\n", " ");

const SECURITY_SCHEMES = {
  bearer: { type: "http", scheme: "bearer", description: "A session's token, or an API key." },
  cookie: {
    type: "apiKey",
    in: "cookie",
    name: "jwt_token",
    description: "A browser's session; what changes something must come from a page of the same origin.",
  },
  cacheBasic: {
    type: "http",
    scheme: "basic",
    description: "Below `/cache`: any user name, and a session's token or an API key as the password.",
  },
};
const SECURITY = {
  everybody: [],
  reader: [{}, { bearer: [] }, { cookie: [] }],
  user: [{ bearer: [] }, { cookie: [] }],
  superuser: [{ bearer: [] }, { cookie: [] }],
} as const;

const FORM_SCHEMAS: Readonly<Record<ParameterForm, Schema>> = {
  name: { type: "string" },
  uuid: { type: "string", format: "uuid" },
  number: { type: "integer", minimum: 0 },
  hash: { type: "string" },
};

/** The API as an OpenAPI 3.1 document: from the registry, the validators and the types, and from nothing else. */
export async function makeDocument(): Promise<Schema> {
  using types = openTypeReader();
  const answers = types.answers();
  const schemas = new Map(types.components);
  const names = await findSchemaNames();
  const sources: Sources = { types, answers, names, schemas, responses: new Map() };
  const paths: Record<string, Record<string, Schema>> = {};
  for (const { tag, routes } of ROUTE_GROUPS) {
    for (const [name, spec] of Object.entries<RouteSpec>(routes)) {
      const [method = "", path = ""] = name.split(" ");
      paths[`${API_PREFIX}${path}`] ??= {};
      const operations = paths[`${API_PREFIX}${path}`] as Record<string, Schema>;
      operations[method.toLowerCase()] = operationOf(sources, name as RouteName, spec, tag);
    }
  }
  return {
    openapi: "3.1.0",
    info: { title: "Gradient", version: "1", description: DESCRIPTION, license: { name: "Apache-2.0" } },
    servers: [{ url: "/", description: "This server." }],
    tags: [...ROUTE_GROUPS.map(({ tag, description }) => ({ name: tag, description })), CACHE_TAG],
    paths: { ...paths, ...cachePaths() },
    components: {
      securitySchemes: SECURITY_SCHEMES,
      schemas: sorted(schemas.set("Failure", failureSchema())),
      responses: sorted(sources.responses),
    },
  };
}

function operationOf(sources: Sources, name: RouteName, spec: RouteSpec, tag: string): Schema {
  const { summary, audience, permissions = [], body, upload } = spec;
  const parameters = [...pathParameters(name), ...(spec.query ? querySchemas(sources, spec.query) : [])];
  return {
    operationId: operationId(name),
    tags: [tag],
    summary,
    ...descriptionOf(spec),
    security: SECURITY[audience],
    ...(permissions.length > 0 && { "x-permissions": permissions }),
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: jsonBody(sources, body) }),
    ...(upload && { requestBody: uploadBody(upload) }),
    responses: {
      ...successOf(spec, sources.answers.get(name)),
      ...failureResponses(errorsOf(name, spec), sources.responses),
    },
  };
}

/** `GET /orgs/{organization}/users` is `getOrgsByOrganizationUsers`. */
function operationId(name: RouteName): string {
  const [method = "", path = ""] = name.split(" ");
  const words = path.split(/[/.-]/).filter((word) => word !== "");
  const capitals = words.map((word) => (word.startsWith("{") ? `By${capital(word.slice(1, -1))}` : capital(word)));
  return method.toLowerCase() + capitals.join("");
}

function capital(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}

function descriptionOf({ description, audience, permissions = [] }: RouteSpec): Schema {
  const quoted = permissions.map((permission) => `\`${permission}\``).join(" and ");
  const needs = permissions.length > 0 ? `Needs ${quoted}.` : audience === "superuser" ? "For superusers." : "";
  const text = [description ?? "", needs].filter((part) => part !== "").join(" ");
  return text === "" ? {} : { description: text };
}

function pathParameters(name: RouteName): Schema[] {
  return [...name.matchAll(/\{(\w+)\}/g)].map(([, key = ""]) => {
    const parameter = PATH_PARAMETERS[key];
    if (!parameter) throw new Error(`${name}: core/api/openapi/parameters.ts does not know {${key}}`);
    const { description, form } = parameter;
    return { name: key, in: "path", required: true, description, schema: FORM_SCHEMAS[form] };
  });
}

function querySchemas({ names, types }: Sources, query: v.GenericSchema): Schema[] {
  return queryParameters(requestSchema(query, names.get(query), types));
}

/** An absent body counts as an empty object. */
function jsonBody({ names, types, schemas }: Sources, body: v.GenericSchema): Schema {
  const named = names.get(body);
  const schema = requestSchema(body, named, types);
  if (named) schemas.set(named.name, schema);
  const shown = named ? { $ref: `#/components/schemas/${named.name}` } : schema;
  return { required: !v.is(body, {}), content: { "application/json": { schema: shown } } };
}

function uploadBody({ contentType, description, parts = {} }: NonNullable<RouteSpec["upload"]>): Schema {
  const properties = Object.entries(parts).map(
    ([part, text]) => [part, { type: "string", description: text }] as const,
  );
  const form = {
    type: "object",
    ...(properties.length > 0
      ? { properties: Object.fromEntries(properties), required: Object.keys(parts) }
      : { additionalProperties: { type: "string" } }),
  };
  const schema = contentType === "multipart/form-data" ? form : { type: "string", format: "binary" };
  return { required: true, description, content: { [contentType]: { schema } } };
}

function successOf({ answer, verdict }: RouteSpec, held: Schema | undefined): Schema {
  const schema = held ?? {};
  const failure = { $ref: "#/components/schemas/Failure" };
  const shown = answer.as === "json" && verdict ? { anyOf: [envelopeOf(schema), failure] } : envelopeOf(schema);
  switch (answer.as) {
    case "json":
      return { [answer.status]: { description: "Success.", content: { "application/json": { schema: shown } } } };
    case "stream":
      return { 200: streamOf(answer.contentType, schema) };
    case "file":
      return { 200: { description: "The bytes.", content: fileContent(answer) } };
    case "empty":
      return { [answer.status]: { description: "Success, without a body." } };
    case "redirect":
      return { [answer.status]: { description: "To another address: the header `Location` names it." } };
    default:
      return answer satisfies never as Answer as never;
  }
}

function envelopeOf(message: Schema): Schema {
  return {
    type: "object",
    properties: { error: { const: false }, message },
    required: ["error", "message"],
  };
}

/** OpenAPI 3.1 knows no schema of a stream's parts; 3.2 calls it `itemSchema`. */
function fileContent({ contentType, otherContentType }: FileAnswer): Schema {
  return { [contentType]: {}, ...(otherContentType !== undefined && { [otherContentType]: {} }) };
}

function streamOf(contentType: string, item: Schema): Schema {
  const lines = contentType === "text/event-stream" ? "The data of each event is JSON." : "Each line is JSON.";
  return { description: lines, content: { [contentType]: { schema: { type: "string" }, "x-item-schema": item } } };
}

function failureSchema(): Schema {
  return {
    type: "object",
    description: "What went wrong: a code for programs, and a text for people that says what to do.",
    properties: {
      error: { const: true },
      code: { type: "string", enum: Object.keys(ERROR_STATUS) },
      message: { type: "string" },
    },
    required: ["error", "code", "message"],
  };
}

function sorted(schemas: ReadonlyMap<string, Schema>): Schema {
  return Object.fromEntries([...schemas].sort(([a], [b]) => (a < b ? -1 : 1)));
}
