import { lineAt, readSource } from "./source-text.ts";

export interface ImportSite {
  readonly specifier: string;
  /** Counted from 1. */
  readonly line: number;
  /** The module's names are passed on: `export … from`. */
  readonly reexport: boolean;
}

/** What may stand between the keyword and the quote: a name, then a brace list or a star, then `from`; or nothing. */
const CLAUSE = String.raw`(?:\s+type\b)?\s*(?:[\w$]+\s*,?\s*)?(?:\{[^{}]*\}|\*(?:\s+as\s+[\w$]+)?)?\s*\bfrom\s*`;
const STATIC = new RegExp(String.raw`(?<![.\w$])(?:(export)\b${CLAUSE}|import\b(?:${CLAUSE}|\s*))["']`, "g");
/** In code without the insides of strings. */
const STATEMENT = new RegExp(String.raw`${STATIC.source}\s*["'][^;\n]*;?`, "g");
const DYNAMIC = /(?<![.\w$])import\s*\(\s*["'`]/g;
const REFERENCE = /^\/\/\/\s*<reference\s+(?:types|path)\s*=\s*["']([^"']+)["']/gm;

/**
 * Every module a file names: `import` and `export … from` with or without `type`, `import()` of a literal (also as a
 * type), and `/// <reference types>`, in the order of their lines.
 */
export function findImports(text: string): ImportSite[] {
  const source = readSource(text);
  const sites: ImportSite[] = [];
  const add = (quoteAt: number, at: number, reexport: boolean) => {
    const end = text.indexOf(text.charAt(quoteAt), quoteAt + 1);
    sites.push({ specifier: text.slice(quoteAt + 1, end), line: lineAt(text, at), reexport });
  };

  for (const match of source.code.matchAll(STATIC)) {
    add(match.index + match[0].length - 1, match.index, match[1] !== undefined);
  }
  for (const match of source.code.matchAll(DYNAMIC)) add(match.index + match[0].length - 1, match.index, false);
  for (const match of source.comments.matchAll(REFERENCE)) {
    sites.push({ specifier: match[1] as string, line: lineAt(text, match.index), reexport: false });
  }
  return sites.sort((a, b) => a.line - b.line);
}

/** Whether the file has nothing of its own: it only passes on the names of others. */
export function isBarrel(text: string): boolean {
  const { code } = readSource(text);
  return code.replaceAll(STATEMENT, "").trim() === "" && findImports(text).some((site) => site.reexport);
}
