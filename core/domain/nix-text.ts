/** What JSON can hold. */
export type NixValue =
  | string
  | number
  | boolean
  | null
  | readonly NixValue[]
  | { readonly [name: string]: NixValue | undefined };

const INDENT = "  ";
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_'-]*$/;
const KEYWORDS: readonly string[] = "assert else if in inherit let or rec then with".split(" ");
const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/**
 * The value as a Nix expression (Nix manual, "Data Types"), laid out for people. Whole numbers only; attributes that
 * are undefined are left out.
 */
export function formatNix(value: NixValue, indent = ""): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "string") return formatNixString(value);
  const inner = indent + INDENT;
  if (isList(value)) {
    if (value.length === 0) return "[ ]";
    return `[\n${value.map((item) => `${inner}${formatNix(item, inner)}\n`).join("")}${indent}]`;
  }
  const entries = Object.entries(value).filter((entry): entry is [string, NixValue] => entry[1] !== undefined);
  if (entries.length === 0) return "{ }";
  const lines = entries.map(([name, item]) => `${inner}${formatAttribute(name)} = ${formatNix(item, inner)};\n`);
  return `{\n${lines.join("")}${indent}}`;
}

/** In quotes, with everything that means something in them taken literally. */
export function formatNixString(text: string): string {
  return `"${text.replace(/[\\"\n\r\t]|\$\{/g, (found) => ESCAPES[found] ?? `\\${found}`)}"`;
}

function formatAttribute(name: string): string {
  return IDENTIFIER.test(name) && !KEYWORDS.includes(name) ? name : formatNixString(name);
}

function formatNumber(value: number): string {
  if (!Number.isSafeInteger(value))
    throw new RangeError(`${value} is not a whole number that Nix and we can both hold`);
  // Within a list, a minus would be an operator.
  return value < 0 ? `(${value})` : String(value);
}

function isList(value: object): value is readonly NixValue[] {
  return Array.isArray(value);
}
