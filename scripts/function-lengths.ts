import { lineAt, readSource } from "./source-text.ts";

export interface FunctionLength {
  /** The line of the opening brace, counted from 1. */
  readonly line: number;
  /** From the line of the opening brace to that of the closing one, both counted. */
  readonly lines: number;
  /** The body stands in a call of `describe`: a list of tests, not a function that someone follows. */
  readonly describes: boolean;
}

/** How far in front of a body its `describe` is looked for. */
const HEAD_LENGTH_MAX = 400;
const NOT_A_FUNCTION = /\b(?:if|for|while|switch|catch|with|await)\s*$/;

/** Every function, method and arrow function that has a body in braces, in the order of their closing braces. */
export function functionLengths(text: string): FunctionLength[] {
  const { code } = readSource(text);
  const open: { at: number; isFunction: boolean }[] = [];
  const lengths: FunctionLength[] = [];

  for (let at = 0; at < code.length; at++) {
    if (code[at] === "{") open.push({ at, isFunction: opensFunction(code, at) });
    if (code[at] !== "}") continue;
    const start = open.pop();
    if (!start?.isFunction) continue;
    const line = lineAt(code, start.at);
    const describes = isInsideDescribe(code.slice(Math.max(0, start.at - HEAD_LENGTH_MAX), start.at));
    lengths.push({ line, lines: lineAt(code, at) - line + 1, describes });
  }
  return lengths;
}

/** Whether the text before a body ends within the arguments of `describe`, whose title may hold braces of its own. */
function isInsideDescribe(before: string): boolean {
  const start = before.search(/^[ \t]*describe\b(?![\s\S]*^[ \t]*describe\b)/m);
  if (start === -1) return false;
  const count = (character: string) => before.slice(start).split(character).length - 1;
  return count("(") - count(")") === 1 && count("{") === count("}");
}

function opensFunction(code: string, brace: number): boolean {
  const before = code.slice(0, brace).trimEnd();
  if (before.endsWith("=>")) return true;
  // A type or an object in braces, also one that stands within a return type.
  if (/[:<|&,(=[?]$/.test(before)) return false;
  const parenthesis = before.endsWith(")") ? before.length - 1 : endOfParameters(before);
  if (parenthesis === -1) return false;
  return !NOT_A_FUNCTION.test(before.slice(0, matchingOpen(before, parenthesis)));
}

/**
 * Where the parameters end when the text ends in a return type, as in `): Promise<void>`; otherwise -1. Goes back over
 * the type; a statement's end, an assignment, or a block before a new declaration says that there is none.
 */
function endOfParameters(before: string): number {
  for (let at = before.length - 1; at >= 0; at--) {
    const character = before.charAt(at);
    if (character === ")" && /^\s*:/.test(before.slice(at + 1, at + 10))) return at;
    if (character === ")" || character === "]" || character === "}") {
      const rest = before.slice(at + 1).trimStart();
      if (character === "}" && rest !== "" && !/^[|&[\]>,)]/.test(rest)) return -1;
      at = matchingOpen(before, at);
    } else if (/[;({[=]/.test(character) && before.charAt(at + 1) !== ">") return -1;
  }
  return -1;
}

/** The index of the bracket that the one at `close` belongs to, or 0. */
function matchingOpen(code: string, close: number): number {
  let depth = 0;
  for (let at = close; at > 0; at--) {
    if (/[)\]}]/.test(code.charAt(at))) depth++;
    if (/[([{]/.test(code.charAt(at)) && --depth === 0) return at;
  }
  return 0;
}
