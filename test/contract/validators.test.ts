import fc from "fast-check";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import type { RouteName } from "#core/api/openapi/route.ts";
import { ROUTES } from "#core/api/openapi/routes.ts";
import { isWithoutNul } from "#core/api/text.ts";
import { isUuid } from "#core/lib/ids.ts";
import { anything, arbitraryOf, demandsOn, type Node, nodeOf, rawJson } from "./arbitrary.ts";
import { takesBody } from "./document.ts";

const RUNS = 100;

const bodies = [...ROUTES].flatMap(([name, { body }]) => (body ? [[name, body] as const] : []));
const queries = [...ROUTES].flatMap(([name, { query }]) => (query ? [[`${name} ?`, query] as const] : []));
const everySchema: readonly (readonly [string, v.GenericSchema])[] = [...bodies, ...queries];

/** Each schema within a schema, with the path to it. */
function* nodesIn(node: Node, path: string): Generator<readonly [path: string, node: Node]> {
  yield [path, node];
  for (const [name, entry] of Object.entries(node.entries ?? {})) yield* nodesIn(entry, `${path}.${name}`);
  for (const inner of [node.item, node.wrapped, node.value, node.key, ...(node.items ?? [])]) {
    if (inner) yield* nodesIn(inner, path);
  }
  if (node.type === "variant" || node.type === "union") {
    for (const option of (node.options ?? []) as readonly Node[]) yield* nodesIn(option, path);
  }
}

/** What a value has no limit in, or null. */
function unbounded(node: Node): string | null {
  const demands = demandsOn(node);
  const regex = demands.get("regex");
  switch (node.type) {
    case "string":
      if (demands.has("max_length") || demands.get("check") === isUuid) return null;
      return regex instanceof RegExp && isBounded(regex) ? null : "text of any length";
    case "array":
      return demands.has("max_length") ? null : "a list of any length";
    case "record":
      return demands.has("check") || demands.has("max_entries") ? null : "any number of entries";
    case "number":
      return demands.has("max_value") || demands.has("safe_integer") ? null : "any number";
    case "any":
    case "unknown":
      return "anything at all";
    default:
      return null;
  }
}

/** A whole-text pattern without a part that repeats for ever. */
function isBounded({ source }: RegExp): boolean {
  return source.startsWith("^") && source.endsWith("$") && !/(?<!\\)[*+]|\{\d+,\}/.test(source);
}

describe("what requests may hold", () => {
  test("has a limit in every place", () => {
    const found = everySchema.flatMap(([name, schema]) =>
      [...nodesIn(nodeOf(schema), name)].flatMap(([path, node]) => {
        const what = unbounded(node);
        return what === null ? [] : [`${path} takes ${what}`];
      }),
    );
    // A query is as long as the request's first line may be; its values are looked up, not kept.
    expect(found.filter((line) => !line.includes(" ?"))).toEqual([]);
  });

  test("is judged without an accident, whatever comes", () => {
    for (const [, schema] of everySchema) {
      const judge = (value: unknown) => typeof v.safeParse(schema, value).success === "boolean";
      fc.assert(fc.property(fc.anything({ withNullPrototype: true }), judge), { numRuns: RUNS });
      const parsed = rawJson.map((text) => {
        try {
          return JSON.parse(text) as unknown;
        } catch {
          return text;
        }
      });
      fc.assert(fc.property(parsed, judge), { numRuns: RUNS });
    }
  });

  test("is never text with a NUL, which PostgreSQL cannot keep", () => {
    for (const [, schema] of bodies) {
      fc.assert(
        fc.property(arbitraryOf(nodeOf(schema)), (value) => {
          const result = v.safeParse(schema, value);
          if (result.success) expect(JSON.stringify(result.output) ?? "").not.toContain("\\u0000");
        }),
        { numRuns: RUNS },
      );
    }
  });

  test("may have fields that nobody knows: they change nothing", () => {
    for (const [name, schema] of everySchema) {
      fc.assert(
        fc.property(arbitraryOf(nodeOf(schema)), fc.jsonValue(), (value, more) => {
          const plain = v.safeParse(schema, value);
          const extended = v.safeParse(schema, { ...(value as object), "not a field": more });
          expect([name, extended.success, extended.output]).toEqual([name, plain.success, plain.output]);
        }),
        { numRuns: RUNS / 2 },
      );
    }
  });
});

describe("the document and the validators", () => {
  test("agree: whatever a validator takes fits the document", () => {
    for (const [name, schema] of bodies) {
      fc.assert(
        fc.property(fc.oneof(arbitraryOf(nodeOf(schema)), withOddField(schema)), (value) => {
          if (v.is(schema, value)) expect([name, value, takesBody(name, value)]).toEqual([name, value, true]);
        }),
        { numRuns: RUNS },
      );
    }
  });

  test("agree: what a validator refuses for its shape does not fit the document", () => {
    const plain = bodies.filter(([, schema]) => [...nodesIn(nodeOf(schema), "")].every(([, node]) => isPlain(node)));
    expect(plain.length).toBeGreaterThan(3);
    for (const [name, schema] of plain) agreeOnRefusals(name, schema);
  });
});

/** JSON Schema says all that the validator says. */
function isPlain(node: Node): boolean {
  return (node.pipe ?? []).every(({ type, requirement }) => {
    return requirement === isWithoutNul || !["check", "transform", "raw_check", "partial_check"].includes(type);
  });
}

function agreeOnRefusals(name: RouteName, schema: v.GenericSchema): void {
  fc.assert(
    fc.property(fc.oneof(arbitraryOf(nodeOf(schema)), withOddField(schema)), (value) => {
      // Of a NUL, JSON Schema could only speak by a pattern at every text.
      if (JSON.stringify(value)?.includes("\\u0000")) return;
      expect([name, value, takesBody(name, value)]).toEqual([name, value, v.is(schema, value)]);
    }),
    { numRuns: RUNS },
  );
}

/** An object of the schema with one field that is something else. */
function withOddField(schema: v.GenericSchema): fc.Arbitrary<unknown> {
  const names = Object.keys(nodeOf(schema).entries ?? { method: 0, type: 0 });
  const odd = fc.dictionary(fc.constantFrom(...names), anything, { minKeys: 1, maxKeys: 1 });
  return fc.tuple(arbitraryOf(nodeOf(schema)), odd).map(([value, some]) => ({ ...(value as object), ...some }));
}
