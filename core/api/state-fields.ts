import * as v from "valibot";
import { nearestWord } from "../lib/nearest-word.ts";

/** Of a list; more is a mistake of whatever wrote the file. */
const LIST_LENGTH_MAX = 10_000;
const PATH_LENGTH_MAX = 4_096;
export const NOT_A_SET = "must be an attribute set";
const MISSING = "is missing";

/** Null, as Nix writes an option that is not set, counts as absent. */
export function optional<const Schema extends v.GenericSchema>(schema: Schema): v.NullishSchema<Schema, undefined> {
  return v.nullish(schema, undefined);
}

/** An attribute set that holds nothing but these; what else it holds is reported, with what was likely meant. */
export function exact<const Entries extends v.ObjectEntries>(entries: Entries): v.ObjectSchema<Entries, string> {
  const known = Object.keys(entries);
  const schema = v.pipe(
    v.looseObject(entries, ({ expected }) => (expected === "Object" ? NOT_A_SET : MISSING)),
    v.rawCheck(({ dataset, addIssue }) => {
      const { value } = dataset as { readonly value: unknown };
      if (typeof value !== "object" || value === null) return;
      for (const [key, content] of Object.entries(value)) {
        if (known.includes(key)) continue;
        const path = [{ type: "object", origin: "key", input: value as Record<string, unknown>, key, value: content }];
        addIssue({ message: unknownWord(key, known), path: path as [v.ObjectPathItem] });
      }
    }),
  );
  // To valibot a list is an object, too.
  const run: (typeof schema)["~run"] = (dataset, config) =>
    schema["~run"](Array.isArray(dataset.value) ? { ...dataset, value: null } : dataset, config);
  // Whoever gets a value from it got no issue, so there is nothing unknown in it.
  return { ...schema, "~run": run } as unknown as v.ObjectSchema<Entries, string>;
}

/** What to say of a word that is none of the known ones. */
export function unknownWord(word: string, known: readonly string[]): string {
  const meant = nearestWord(word, known);
  if (meant !== null) return `is not known here; did you mean ${meant}?`;
  return known.length === 0 ? "is not known here" : `is not known here; what is: ${known.join(", ")}`;
}

/** Text of at least one character, as PostgreSQL can keep it. `max` counts UTF-16 units. */
export function words(max: number): v.GenericSchema<unknown, string> {
  return v.pipe(
    v.string("must be text"),
    v.nonEmpty("is empty"),
    v.maxLength(max, `is longer than the ${max} characters that are allowed`),
    v.check((value) => !value.includes("\0"), "contains a NUL character, which no text may"),
  );
}

export function wholeNumberOf(min: number, max: number): v.GenericSchema<unknown, number> {
  const message = `must be a whole number from ${min} to ${max}`;
  return v.pipe(v.number(message), v.integer(message), v.minValue(min, message), v.maxValue(max, message));
}

/** One of these words. */
export function oneOf<const Words extends readonly string[]>(known: Words): v.GenericSchema<unknown, Words[number]> {
  return v.pipe(
    v.string("must be text"),
    v.check(
      (value) => known.includes(value),
      ({ input }) => unknownWord(input, known),
    ),
    v.transform((value) => value as Words[number]),
  );
}

/** Absent is the empty list. */
export function listOf<const Schema extends v.GenericSchema>(
  item: Schema,
): v.GenericSchema<unknown, v.InferOutput<Schema>[]> {
  const list = v.pipe(
    v.array(item, "must be a list"),
    v.maxLength(LIST_LENGTH_MAX, `has more than the ${LIST_LENGTH_MAX} entries that are allowed`),
  );
  return v.nullish(list, () => []) as v.GenericSchema<unknown, v.InferOutput<Schema>[]>;
}

export function flag(whenAbsent: boolean): v.GenericSchema<unknown, boolean> {
  return v.nullish(v.boolean("must be true or false"), whenAbsent) as v.GenericSchema<unknown, boolean>;
}

const absolutePath = v.pipe(
  v.string("must be the path of a file"),
  v.maxLength(PATH_LENGTH_MAX, `is longer than the ${PATH_LENGTH_MAX} characters that are allowed`),
  v.check((path) => path.startsWith("/") && !path.includes("\0"), "must be the absolute path of a file"),
);
/** Where a secret lies. The server reads the systemd credential of the secret first, if there is one. */
export const secretPath = optional(absolutePath);
/** Of a secret that the server cannot make. Null, as the export has it: the server knows it already. */
export const neededSecretPath = v.nullable(absolutePath);
/** Without a path: whether what the server has already stays, rather than being taken away. */
export const hasSecret = flag(false);

export const nameWords = words(1_000);
export const displayWords = optional(
  v.pipe(
    v.string("must be text"),
    v.check((value) => value.trim() !== "", "is empty"),
    v.check((value) => new TextEncoder().encode(value).length <= 100, "is longer than the 100 bytes that are allowed"),
    v.regex(/^\P{Cc}*$/u, "contains a control character"),
  ),
);
export const descriptionWords = v.nullish(
  v.pipe(
    v.string("must be text"),
    v.maxLength(10_000, "is longer than the 10000 characters that are allowed"),
    v.check((value) => !value.includes("\0"), "contains a NUL character, which no text may"),
  ),
  "",
);
/** Who made it, or null where nobody is known any more. */
export const creator = v.nullable(v.pipe(v.string("must be the name of a user"), v.nonEmpty("is empty")));
