const NAME = /^[A-Za-z_][A-Za-z0-9_-]*$/;
const PATTERN = /^[A-Za-z0-9_*?[\]-]+$/;
const GLOB = /[*?[\]]/;
export const INPUT_PATTERN_LENGTH_MAX = 128;

/** Why the text is neither a flake input's name nor a pattern of names; null when it is one. */
export function inputPatternProblem(text: string): string | null {
  if (text === "") return "it is empty";
  if (text.length > INPUT_PATTERN_LENGTH_MAX) return `it is longer than ${INPUT_PATTERN_LENGTH_MAX} characters`;
  if (!PATTERN.test(text)) return "it may hold letters, digits, _, - and the wildcards *, ? and [ ]";
  if (!GLOB.test(text)) return NAME.test(text) ? null : "a name begins with a letter or _";
  return tryCompile(text) === null ? "its brackets do not close, or hold nothing" : null;
}

/** Whether a name fits: `*` is any text, `?` any character, `[a-z]` one of these. */
export function matchesInput(pattern: string, name: string): boolean {
  return tryCompile(pattern)?.test(name) ?? false;
}

/** A text without wildcards names one input, which then must exist. */
export function isInputName(pattern: string): boolean {
  return !GLOB.test(pattern);
}

function tryCompile(pattern: string): RegExp | null {
  let source = "";
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern[i] as string;
    if (character === "*") source += ".*";
    else if (character === "?") source += ".";
    else if (character === "]") return null;
    else if (character === "[") {
      const end = pattern.indexOf("]", i);
      const members = pattern.slice(i + 1, end);
      if (end === -1 || members === "" || /[[*?]/.test(members)) return null;
      source += `[${members}]`;
      i = end;
    } else source += character;
  }
  try {
    return new RegExp(`^${source}$`);
  } catch {
    // A range whose end is before its beginning.
    return null;
  }
}
