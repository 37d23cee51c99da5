/** Names nested deeper than this are a mistake, or an attack on whoever walks them. */
const SEGMENTS_MAX = 64;
const PLAIN_NAME = /^[^\s."\\,*#!]+$/;

/** The text is not what `formatAttributePath` writes. */
export class AttributePathError extends Error {
  override readonly name = "AttributePathError";
}

/**
 * For people and for the API: names joined by dots, quoted where they hold anything that has a meaning here (dots,
 * spaces, quotes, commas, `*`, `#`, `!`). Different paths give different texts.
 */
export function formatAttributePath(path: readonly string[]): string {
  return path.map((name) => (PLAIN_NAME.test(name) ? name : quote(name))).join(".");
}

/** The inverse of `formatAttributePath`; the empty text is the empty path. Throws `AttributePathError`. */
export function parseAttributePath(text: string): string[] {
  if (text === "") return [];
  const segments = splitAttributePath(text, (message) => {
    throw new AttributePathError(`the attribute path ${JSON.stringify(text.slice(0, 200))} ${message}`);
  });
  return segments.map((segment) => segment.name);
}

/** Splits at the dots that are not inside of quotes. `fail` gets what is wrong as the end of a sentence, and throws. */
export function splitAttributePath(
  text: string,
  fail: (message: string) => never,
): { name: string; quoted: boolean }[] {
  const segments: { name: string; quoted: boolean }[] = [];
  const pattern = /(?:"((?:[^"\\]|\\["\\])*)"|([^."\\]+))(\.|$)/y;
  while (pattern.lastIndex < text.length) {
    const at = pattern.lastIndex;
    const match = pattern.exec(text);
    if (!match) return fail(describeFault(text, at));
    if (segments.length === SEGMENTS_MAX) fail(`has more than ${SEGMENTS_MAX} names`);
    const [, quotedName, plainName = "", separator] = match;
    if (quotedName === undefined) segments.push({ name: plainName, quoted: false });
    else segments.push({ name: quotedName.replace(/\\(.)/gs, "$1"), quoted: true });
    if (separator === "." && pattern.lastIndex === text.length) fail("ends with a dot: remove it");
  }
  return segments;
}

function describeFault(text: string, at: number): string {
  const place = `at character ${at + 1}`;
  if (text[at] === ".") return `has an empty name ${place}: remove the extra dot`;
  if (text[at] === '"') return `has a quote ${place} that is not closed before the next dot`;
  return `has a quote or backslash inside a name ${place}: quote the whole name`;
}

function quote(name: string): string {
  return `"${name.replace(/["\\]/g, "\\$&")}"`;
}
