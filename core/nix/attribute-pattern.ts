import { formatAttributePath, splitAttributePath } from "./attribute-path.ts";

/** `*`: any name, and trailing one level more. `#`: any name at exactly this depth. */
export type Segment =
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "any" }
  | { readonly kind: "anyShallow" };

/** Which attributes of a flake are evaluated. Exclusions are applied after all inclusions, wherever they stood. */
export interface AttributePatterns {
  readonly includes: readonly (readonly Segment[])[];
  readonly excludes: readonly (readonly string[])[];
}

/** The text is no list of patterns. The message says what is wrong, where, and what to write instead. */
export class AttributePatternError extends Error {
  override readonly name = "AttributePatternError";
}

export { formatAttributePath, parseAttributePath } from "./attribute-path.ts";

export const PATTERN_TEXT_LENGTH_MAX = 16_384;
const PATTERNS_MAX = 256;

/**
 * Reads `packages.*.*, checks.x86_64-linux.#, !packages.x86_64-linux."python3.12"`: patterns separated by commas,
 * names by dots; a quoted name may hold dots and commas. Throws `AttributePatternError`.
 */
export function parseAttributePatterns(text: string): AttributePatterns {
  if (text.length > PATTERN_TEXT_LENGTH_MAX) fail(`the patterns are longer than ${PATTERN_TEXT_LENGTH_MAX} characters`);
  if (text === "") fail("no pattern is given: write * to evaluate everything");
  if (text !== text.trim()) fail("the patterns start or end with a space: remove it");
  const items = splitItems(text);
  if (items.length > PATTERNS_MAX) fail(`more than ${PATTERNS_MAX} patterns: use * or # for what they have in common`);
  const includes: Segment[][] = [];
  const excludes: string[][] = [];
  for (const [index, item] of items.entries()) {
    const place = item === "" ? `pattern ${index + 1}` : `pattern ${index + 1} (${shorten(item)})`;
    if (item === "") fail(`${place} is empty: remove the extra comma`);
    if (item.startsWith("!")) excludes.push(readExclude(item.slice(1), place));
    else includes.push(readInclude(item, place));
  }
  if (includes.length === 0) fail("every pattern excludes: add one that says what to evaluate, such as *");
  return { includes, excludes };
}

/** The text of one inclusion, as `parseAttributePatterns` reads it. */
export function formatSegments(segments: readonly Segment[]): string {
  return segments.map(formatSegment).join(".");
}

function formatSegment(segment: Segment): string {
  switch (segment.kind) {
    case "any":
      return "*";
    case "anyShallow":
      return "#";
    case "name":
      return formatAttributePath([segment.name]);
  }
}

function readInclude(item: string, place: string): Segment[] {
  const segments: Segment[] = [];
  for (const part of splitPattern(item, place)) {
    if (!part.quoted && part.name === "#") segments.push({ kind: "anyShallow" });
    else if (part.quoted || part.name !== "*") segments.push({ kind: "name", name: readName(part, place) });
    // A run of * is one: the trailing one looks a level deeper by itself.
    else if (segments.at(-1)?.kind !== "any") segments.push({ kind: "any" });
  }
  if (segments.length === 1 && segments[0]?.kind === "anyShallow") {
    fail(`${place} would only look at the flake's top level: write * for everything, or name a level such as checks.#`);
  }
  return segments;
}

function readExclude(item: string, place: string): string[] {
  if (item === "") fail(`${place} excludes nothing: write the path of an attribute behind the !`);
  return splitPattern(item, place).map((part) => {
    if (!part.quoted && /[*#]/.test(part.name)) fail(`${place} excludes with * or #: an exclusion is one exact path`);
    return readName(part, place);
  });
}

function readName({ name, quoted }: { name: string; quoted: boolean }, place: string): string {
  if (quoted && /^[*#!]$/.test(name)) fail(`${place} holds a quoted ${name}: it has no meaning as a name`);
  if (quoted) return name;
  if (name.includes("!")) fail(`${place} holds a ! that is not at its start: only a whole pattern can exclude`);
  if (/[*#]/.test(name)) fail(`${place} holds * or # as part of a name: they stand for a whole name between dots`);
  return name;
}

function splitPattern(item: string, place: string): { name: string; quoted: boolean }[] {
  if (/\s/.test(item)) fail(`${place} holds a space: separate patterns by commas`);
  if (item.startsWith("."))
    fail(`${place} starts with a dot: write the path from the flake's outputs, such as packages.*`);
  return splitAttributePath(item, (message) => fail(`${place} ${message}`));
}

/** Splits at the commas that are not inside of quotes, and trims each item. */
function splitItems(text: string): string[] {
  const items: string[] = [];
  let start = 0;
  let inQuotes = false;
  for (let i = 0; i < text.length; i++) {
    if (inQuotes && text[i] === "\\") i++;
    else if (text[i] === '"') inQuotes = !inQuotes;
    else if (text[i] === "," && !inQuotes) {
      items.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  items.push(text.slice(start).trim());
  return items;
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function fail(message: string): never {
  throw new AttributePatternError(message);
}
