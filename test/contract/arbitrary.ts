import fc from "fast-check";
import type * as v from "valibot";
import { isUuid } from "#core/lib/ids.ts";

/** As much of a valibot schema as decides which values it takes. */
export interface Node {
  readonly type: string;
  readonly entries?: Readonly<Record<string, Node>>;
  readonly item?: Node;
  readonly items?: readonly Node[];
  readonly key?: Node;
  readonly value?: Node;
  readonly wrapped?: Node;
  readonly literal?: unknown;
  readonly options?: readonly unknown[];
  readonly requirement?: unknown;
  readonly pipe?: readonly Node[];
}

export function nodeOf(schema: v.GenericSchema): Node {
  return schema as unknown as Node;
}

/** What the actions behind a schema ask for, by their names: `max_length`, `regex` and the like. */
export function demandsOn({ pipe = [] }: Node): ReadonlyMap<string, unknown> {
  const demands = new Map<string, unknown>();
  for (const part of pipe) {
    // A schema within a pipe brings its own.
    if (part.pipe) for (const [name, requirement] of demandsOn(part)) demands.set(name, requirement);
    demands.set(part.type, part.requirement);
  }
  return demands;
}

const LENGTH_MAX = 40;
const hostileText = fc.constantFrom("\0", "a\u0000b", "\ud800", "\udc00\ud800", "𝒳", "ﬀ", "-", "--x", "../..", "%00");

/** Values that a schema mostly takes, and with them some at the edges of what it takes. */
export function arbitraryOf(node: Node): fc.Arbitrary<unknown> {
  switch (node.type) {
    case "string":
      return textsOf(demandsOn(node));
    case "number":
      return numbersOf(demandsOn(node));
    case "boolean":
      return fc.boolean();
    case "literal":
      return fc.constant(node.literal);
    case "picklist":
      return fc.constantFrom(...(node.options ?? []));
    case "array":
      return fc.array(arbitraryOf(node.item as Node), { maxLength: 3 });
    case "optional":
    case "undefinedable":
      return fc.option(arbitraryOf(node.wrapped as Node), { nil: undefined });
    case "nullable":
      return fc.option(arbitraryOf(node.wrapped as Node), { nil: null });
    case "nullish":
      return fc.oneof(arbitraryOf(node.wrapped as Node), fc.constantFrom(null, undefined));
    case "object":
    case "loose_object":
    case "strict_object":
      return fc.record(mapValues(node.entries ?? {}, arbitraryOf)).map(withoutUndefined);
    case "record":
      return fc.dictionary(fc.string({ maxLength: 10 }), arbitraryOf(node.value as Node), { maxKeys: 3 });
    case "tuple":
      return fc.tuple(...(node.items ?? []).map(arbitraryOf));
    case "variant":
    case "union":
      return fc.oneof(...((node.options ?? []) as readonly Node[]).map(arbitraryOf));
    case "lazy":
    case "unknown":
    case "any":
      return fc.jsonValue({ maxDepth: 2 });
    default:
      throw new Error(`no values are known for a schema of the type ${node.type}: add them here`);
  }
}

function textsOf(demands: ReadonlyMap<string, unknown>): fc.Arbitrary<string> {
  if (demands.get("check") === isUuid) return fc.uuid();
  const regex = demands.get("regex");
  if (regex instanceof RegExp && regex.flags === "") return fc.stringMatching(regex);
  const most = Number(demands.get("max_length") ?? LENGTH_MAX);
  const least = Number(demands.get("min_length") ?? 0);
  const some = fc.string({ minLength: least, maxLength: Math.max(least, Math.min(most, LENGTH_MAX)) });
  return fc.oneof({ weight: 6, arbitrary: some }, fc.string({ unit: "binary", maxLength: LENGTH_MAX }), hostileText);
}

function numbersOf(demands: ReadonlyMap<string, unknown>): fc.Arbitrary<number> {
  const min = Number(demands.get("min_value") ?? -1_000);
  const max = Number(demands.get("max_value") ?? 1_000);
  return fc.oneof(
    fc.maxSafeInteger().map((any) => min + (Math.abs(any) % (max - min + 1))),
    fc.constantFrom(min, max),
  );
}

function mapValues<T, U>(fields: Readonly<Record<string, T>>, map: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, map(value)]));
}

/** As JSON sends it. */
function withoutUndefined(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** Values of any kind, for the place of one that a schema expects. */
export const anything: fc.Arbitrary<unknown> = fc.oneof(
  hostileText,
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(null, true, 0, -1, 1.5, 2 ** 31, 2 ** 53, 1e308, "", [], {}, [[]], "x".repeat(12_000)),
);

/** JSON that no program of ours writes: deep, huge, doubled, cut off, or no JSON at all. */
export const rawJson: fc.Arbitrary<string> = fc.oneof(
  fc.string(),
  fc.constantFrom(
    "",
    " ",
    "null",
    "[]",
    '"',
    "{",
    "{]",
    "nul",
    "NaN",
    "1e999",
    "-0",
    "\ufeff{}",
    "{}{}",
    "[".repeat(5_000),
  ),
  fc.constantFrom("[", '{"a":').map((open) => open.repeat(3_000) + (open === "[" ? "]" : "1}").repeat(3_000)),
  fc.bigInt().map((number) => `{"priority":${number}${"0".repeat(400)}}`),
  fc.tuple(fc.string(), fc.jsonValue(), fc.jsonValue()).map(([name, one, other]) => {
    const key = JSON.stringify(name);
    return `{${key}:${JSON.stringify(one)},${key}:${JSON.stringify(other)},"__proto__":{"admin":true}}`;
  }),
  fc.jsonValue().map((value) => JSON.stringify(value)),
);
