import { readdirSync } from "node:fs";
import { join } from "node:path";
import { toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import type { Schema, TypeReader } from "./openapi-types.ts";
import { isTestFile, ROOT } from "./source-files.ts";

const FOLDER = "core/api";
/** What the routes take in a query where they mean a number. */
const DIGITS = /^\^(?:\\d|\[0-9\])\{1,\d+\}\$$/;

/** A request's schema as the validator has it, under the name by which `core/api` exports it. */
export interface NamedSchema {
  readonly name: string;
  readonly file: string;
}

/** Where each exported schema comes from, by the schema itself. */
export async function findSchemaNames(): Promise<ReadonlyMap<unknown, NamedSchema>> {
  const names = new Map<unknown, NamedSchema>();
  for (const entry of readdirSync(join(ROOT, FOLDER))) {
    if (!entry.endsWith(".ts") || isTestFile(entry)) continue;
    const file = `${FOLDER}/${entry}`;
    const module: Record<string, unknown> = await import(join(ROOT, file));
    for (const [name, value] of Object.entries(module)) if (isSchema(value)) names.set(value, { name, file });
  }
  return names;
}

function isSchema(value: unknown): value is v.GenericSchema {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === "schema";
}

/**
 * The schema of a request: what the validator lets through fits it. What cannot be said in JSON Schema (rules of a
 * whole object, say) is left to the validator.
 */
export function requestSchema(schema: v.GenericSchema, named: NamedSchema | undefined, types: TypeReader): Schema {
  const { $schema: _, ...plain } = toJsonSchema(schema, {
    typeMode: "input",
    errorMode: "ignore",
    target: "draft-2020-12",
  }) as Schema;
  // Unknown fields are ignored, today and by later servers.
  const open = withoutClosing(plain) as Schema;
  return named ? withComments(open, types.fieldComments(named.file, named.name)) : open;
}

function withoutClosing(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutClosing);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).filter(([key, inner]) => !(key === "additionalProperties" && inner === false));
  return Object.fromEntries(fields.map(([key, inner]) => [key, withoutClosing(inner)]));
}

function withComments(schema: Schema, comments: ReadonlyMap<string, string>): Schema {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>);
  if (properties.length === 0) return schema;
  const commented = properties.map(([name, field]) => {
    const comment = comments.get(name);
    return [name, comment === undefined ? field : { ...field, description: comment }] as const;
  });
  return { ...schema, properties: Object.fromEntries(commented) };
}

/** The parameters of a query. Numbers are text on the wire, which OpenAPI takes for granted. */
export function queryParameters(schema: Schema): Schema[] {
  const required = new Set((schema.required ?? []) as string[]);
  return Object.entries((schema.properties ?? {}) as Record<string, Schema>).map(([name, field]) => {
    const { description, ...rest } = field;
    return {
      name,
      in: "query",
      required: required.has(name),
      ...(description !== undefined && { description }),
      schema: asNumber(rest),
    };
  });
}

function asNumber(field: Schema): Schema {
  if (field.type !== "string" || !DIGITS.test(String(field.pattern))) return field;
  const { pattern: _, default: byDefault, ...rest } = field;
  return { ...rest, type: "integer", minimum: 0, ...(byDefault !== undefined && { default: Number(byDefault) }) };
}
