/**
 * A source text with the parts that are not code blanked out by spaces. Every character keeps its place and every line
 * its number, so that a match in one of them can be looked up in the others.
 */
export interface SourceText {
  readonly text: string;
  /** Without comments, without the insides of strings, templates and regular expressions (quotes stay). */
  readonly code: string;
  /** Comments alone. */
  readonly comments: string;
}

/** After one of these a slash begins a regular expression; after a value it divides. */
const BEFORE_REGEX =
  /(?:^|[([{,;=:!&|?+\-*%<>~^}]|\b(?:return|typeof|case|in|of|delete|void|throw|await|yield|else))\s*$/;

/** Splits TypeScript into code and comments. It does not judge: text that is not TypeScript gives some answer, too. */
export function readSource(text: string): SourceText {
  const code = [...blankOf(text)];
  const comments = [...blankOf(text)];
  // The depth of braces at which each open `${` of a template ends.
  const templates: number[] = [];
  let depth = 0;

  const keep = (target: string[], from: number, to: number) => {
    for (let i = from; i < to; i++) target[i] = text.charAt(i);
  };

  for (let at = 0; at < text.length; ) {
    const character = text.charAt(at);
    const pair = text.slice(at, at + 2);
    let end = at + 1;
    if (pair === "//" || pair === "/*") {
      end = endOfComment(text, at);
      keep(comments, at, end);
    } else if (character === '"' || character === "'") {
      end = endOfQuoted(text, at, character);
      code[at] = character;
      code[end - 1] = character;
    } else if (character === "`" || (character === "}" && templates.at(-1) === depth)) {
      if (character === "}") templates.pop();
      code[at] = character;
      end = endOfTemplatePart(text, at);
      code[end - 1] = text.charAt(end - 1);
      if (text.charAt(end - 1) === "{") templates.push(depth);
    } else if (character === "/" && BEFORE_REGEX.test(code.slice(Math.max(0, at - 80), at).join(""))) {
      end = endOfRegex(text, at);
      code[at] = "/";
      code[end - 1] = "/";
    } else {
      if (character === "{") depth++;
      if (character === "}") depth--;
      code[at] = character;
    }
    at = end;
  }
  return { text, code: code.join(""), comments: comments.join("") };
}

/** Counted from 1. */
export function lineAt(text: string, index: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < index; at = text.indexOf("\n", at + 1)) line++;
  return line;
}

// By UTF-16 units, as all indices here: spreading a string would join surrogate pairs.
function blankOf(text: string): string {
  return text.replaceAll(/[^\n]/g, " ");
}

function endOfComment(text: string, start: number): number {
  const line = text.startsWith("//", start);
  const end = text.indexOf(line ? "\n" : "*/", start + 2);
  if (end === -1) return text.length;
  return line ? end : end + 2;
}

function endOfQuoted(text: string, start: number, quote: string): number {
  for (let at = start + 1; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === "\\") at++;
    else if (character === quote) return at + 1;
    else if (character === "\n") return at;
  }
  return text.length;
}

/** Behind the closing backtick, or behind the brace of the next `${`. */
function endOfTemplatePart(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text.charAt(at) === "\\") at++;
    else if (text.charAt(at) === "`") return at + 1;
    else if (text.startsWith("${", at)) return at + 2;
  }
  return text.length;
}

function endOfRegex(text: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === "\\") at++;
    else if (character === "\n") return at;
    else if (character === "[") inClass = true;
    else if (character === "]") inClass = false;
    else if (character === "/" && !inClass) return at + 1;
  }
  return text.length;
}
