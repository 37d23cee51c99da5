/** As much of JSON Schema as the document uses. */
export interface JsonSchema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: JsonSchema | boolean;
  readonly description?: string;
  readonly default?: unknown;
  readonly format?: string;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A schema as people write types, as HTML; names of the document's own schemas are links. */
export function renderSchema(schema: JsonSchema, indent = ""): string {
  const { $ref, anyOf, oneOf, allOf, enum: values } = schema;
  if ($ref !== undefined) {
    const name = escapeHtml($ref.slice($ref.lastIndexOf("/") + 1));
    return `<a href="#schema-${name}">${name}</a>`;
  }
  if ("const" in schema) return escapeHtml(JSON.stringify(schema.const));
  if (values) return values.map((value) => escapeHtml(JSON.stringify(value))).join(" | ");
  const union = anyOf ?? oneOf;
  if (union) return union.map((part) => renderSchema(part, indent)).join(" | ");
  if (allOf) return allOf.map((part) => renderSchema(part, indent)).join(" &amp; ");
  const types = typeof schema.type === "string" ? [schema.type] : (schema.type ?? ["anything"]);
  return types.map((type) => renderType(schema, type, indent)).join(" | ");
}

function renderType(schema: JsonSchema, type: string, indent: string): string {
  if (type === "array") {
    const item = renderSchema(schema.items ?? {}, indent);
    return item.includes(" | ") ? `(${item})[]` : `${item}[]`;
  }
  return type === "object" ? renderObject(schema, indent) : escapeHtml(type);
}

function renderObject({ properties, required = [], additionalProperties }: JsonSchema, indent: string): string {
  const inner = `${indent}  `;
  const lines = Object.entries(properties ?? {}).flatMap(([name, field]) => {
    const sign = required.includes(name) ? "" : "?";
    const about = remarksOf(field).map((text) => `${inner}<i>// ${escapeHtml(text)}</i>`);
    return [...about, `${inner}<b>${escapeHtml(name)}</b>${sign}: ${renderSchema(field, inner)}`];
  });
  if (typeof additionalProperties === "object") {
    lines.push(`${inner}[name]: ${renderSchema(additionalProperties, inner)}`);
  }
  return lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n${indent}}`;
}

/** What the type does not say, in lines: the description, and the limits. */
export function remarksOf(schema: JsonSchema): string[] {
  const limits = [
    schema.format,
    schema.pattern && `matches ${schema.pattern}`,
    rangeOf(schema.minimum, schema.maximum, ""),
    rangeOf(schema.minLength, schema.maxLength, " characters"),
    rangeOf(schema.minItems, schema.maxItems, " items"),
    schema.default === undefined ? undefined : `by default ${JSON.stringify(schema.default)}`,
  ].filter((limit) => limit !== undefined && limit !== "");
  const about = (schema.description ?? "").split("\n").filter((line) => line !== "");
  return limits.length === 0 ? about : [...about, limits.join(", ")];
}

function rangeOf(least: number | undefined, most: number | undefined, unit: string): string | undefined {
  if (least === undefined) return most === undefined ? undefined : `at most ${most}${unit}`;
  return most === undefined ? `at least ${least}${unit}` : `${least} to ${most}${unit}`;
}
