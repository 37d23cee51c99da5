import * as v from "valibot";

type Fields = Readonly<Record<string, unknown>>;

/** What other entries and other fields go by: with one of these made up, the rest would look wrong that is right. */
const TELLING: readonly string[] = [
  "name",
  "username",
  "worker_id",
  "organization",
  "organizations",
  "kind",
  "forge_type",
  "base_worker",
];
/** One of them is right for every field: left out, text, a list, an address, an id, permissions. */
const STAND_INS: readonly unknown[] = [
  undefined,
  "stand-in",
  "stand-in@example.org",
  [],
  "https://example.org/stand-in",
  "00000000-0000-4000-8000-000000000000",
  ["viewOrg"],
  ["viewCache"],
];

/**
 * The entry with something right in place of its wrong fields, so that the others can be looked at too. What is found
 * below `fields` means nothing. Null where too much hangs on what is wrong.
 */
export function mendEntry<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
): { readonly entry: v.InferOutput<Schema>; readonly fields: readonly string[] } | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const fields = [...wrongFields(schema, value as Fields)];
  if (fields.some((field) => TELLING.includes(field))) return null;
  let mended = value as Fields;
  for (const field of fields) {
    const found = STAND_INS.map((content) => withField(mended, field, content)).find(
      (candidate) => !wrongFields(schema, candidate).has(field),
    );
    if (!found) return null;
    mended = found;
  }
  const result = v.safeParse(schema, mended);
  return result.success ? { entry: result.output, fields } : null;
}

function withField(entry: Fields, field: string, content: unknown): Fields {
  const { [field]: _, ...others } = entry;
  return content === undefined ? others : { ...others, [field]: content };
}

function wrongFields(schema: v.GenericSchema, value: Fields): Set<string> {
  const { issues = [] } = v.safeParse(schema, value);
  return new Set(issues.map(({ path }) => String(path?.[0]?.key ?? "")));
}
