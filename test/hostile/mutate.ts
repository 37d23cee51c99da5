import type { Random } from "#test/sim/random.ts";

/** Values that parsers, numbers and texts of programs have failed on before. */
const NASTY: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1.5,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  -(2 ** 53),
  1e308,
  "",
  "\0",
  "\ud800",
  "x".repeat(5_000),
  "../../../../etc/passwd",
  "/nix/store/../../etc/passwd",
  "/nix/store/00000000000000000000000000000000-",
  "'; drop table build; --",
  "%s%n",
  [],
  {},
  [[[[[[[[]]]]]]]],
  { __proto__: { type: "heartbeat" } },
];

/** The value with one to three places of it changed: replaced, removed, repeated, or with names nobody knows. */
export function mutate(random: Random, value: unknown): unknown {
  let mutated = structuredClone(value);
  for (let i = random.between(1, 3); i > 0; i--) mutated = mutateOnce(random, mutated);
  return mutated;
}

function mutateOnce(random: Random, value: unknown): unknown {
  if (Array.isArray(value) && value.length > 0 && random.chance(0.8)) {
    const at = random.below(value.length);
    if (random.chance(0.2)) return Array.from({ length: random.pick([2, 50, 2_000]) }, () => value[at]);
    return value.with(at, mutateOnce(random, value[at]));
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value) && random.chance(0.9)) {
    const entries = Object.entries(value);
    const at = random.below(entries.length || 1);
    const chosen = entries[at];
    if (!chosen || random.chance(0.1))
      return { ...value, [random.pick(["__proto__", "constructor", "x"])]: nasty(random) };
    if (random.chance(0.15)) return Object.fromEntries(entries.toSpliced(at, 1));
    return Object.fromEntries(entries.with(at, [chosen[0], mutateOnce(random, chosen[1])]));
  }
  return nasty(random);
}

function nasty(random: Random): unknown {
  return random.pick(NASTY);
}

/** A text that is hardly JSON any more. */
export function damage(random: Random, text: string): string {
  const at = random.below(text.length || 1);
  switch (random.below(6)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return `${text.slice(0, at)}${String.fromCharCode(random.below(0x300))}${text.slice(at + 1)}`;
    case 2:
      return text + text;
    case 3:
      return "[".repeat(random.pick([10, 1_000, 500_000]));
    case 4:
      return JSON.stringify({ type: "heartbeat", rest: "x".repeat(2 ** 20) });
    default:
      return random.pick(["", "null", "0", '"heartbeat"', "[]", "{}", '{"type":null}', '{"type":"__proto__"}', "\0"]);
  }
}
