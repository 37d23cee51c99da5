import { expect, test } from "vitest";
import { functionLengths } from "#scripts/function-lengths.ts";
import { checkLayers } from "#scripts/layer-rules.ts";
import { isTestFile, readSourceFiles } from "#scripts/source-files.ts";
import { lineAt, readSource, type SourceText } from "#scripts/source-text.ts";

const FILE_LINES_MAX = 300;
/** A list of cases grows with what it protects and is not read from end to end. */
const TEST_FILE_LINES_MAX = 500;
const FUNCTION_LINES_MAX = 70;
const COLUMNS_MAX = 120;
/** A hash, a URL, a recorded text: broken in two it could no longer be searched for. */
const UNBREAKABLE = /\S{90,}/;

type Rule = "file length" | "function length" | "line length" | "environment" | "console";

interface Exception {
  readonly rule: Rule;
  /** A file, or with a closing slash everything below a folder. */
  readonly path: string;
  readonly reason: string;
}

/** To add one is a decision: it needs a reason that a reviewer accepts. An exception that nothing needs fails, too. */
const EXCEPTIONS: readonly Exception[] = [
  { rule: "file length", path: "core/db/schema.ts", reason: "one interface a table, looked up and never read through" },
  { rule: "function length", path: "migrations/", reason: "a migration is one list of statements in their order" },
];

/** Where a rule does not apply by its nature. */
const ENVIRONMENT_READERS = /^(?:(?:runtime\/node|worker|deploy-agent)\/config(?:\.ts$|\/)|(?:scripts|test|bench)\/)/;
const CONSOLE_WRITERS = /^(?:scripts|test|bench)\//;

const files = readSourceFiles();
const sources = new Map<string, SourceText>([...files].map(([path, text]) => [path, readSource(text)]));
const usedExceptions = new Set<Exception>();

/** Every hit of a pattern in one part of the files, as `path:line  advice`. */
function hits(part: keyof SourceText, pattern: RegExp, advice: string, applies: (path: string) => boolean): string[] {
  const found: string[] = [];
  for (const [path, source] of sources) {
    if (!applies(path)) continue;
    for (const match of source[part].matchAll(pattern)) {
      found.push(`${path}:${lineAt(source.text, match.index)}  ${match[0].trim()}: ${advice}`);
    }
  }
  return found;
}

function isExcepted(rule: Rule, path: string): boolean {
  const exception = EXCEPTIONS.find(
    (one) => one.rule === rule && (one.path.endsWith("/") ? path.startsWith(one.path) : path === one.path),
  );
  if (exception) usedExceptions.add(exception);
  return exception !== undefined;
}

test("a file has one idea and at most 300 lines", () => {
  const long = [...files].flatMap(([path, text]) => {
    const lines = text.trimEnd().split("\n").length;
    const max = isTestFile(path) ? TEST_FILE_LINES_MAX : FILE_LINES_MAX;
    if (lines <= max || isExcepted("file length", path)) return [];
    return [`${path}  has ${lines} lines, at most ${max}: give its second idea a file of its own`];
  });
  expect(long).toEqual([]);
});

test("a function has at most 70 lines", () => {
  const long = [...files].flatMap(([path, text]) =>
    functionLengths(text)
      .filter(({ lines, describes }) => lines > FUNCTION_LINES_MAX && !describes)
      .filter(() => !isExcepted("function length", path))
      .map(({ line, lines }) => `${path}:${line}  has ${lines} lines: name a step of it and make that a function`),
  );
  expect(long).toEqual([]);
});

test("a line has at most 120 columns", () => {
  const long = [...files].flatMap(([path, text]) =>
    text.split("\n").flatMap((line, index) => {
      if ([...line].length <= COLUMNS_MAX || UNBREAKABLE.test(line) || isExcepted("line length", path)) return [];
      return [`${path}:${index + 1}  has ${[...line].length} columns: break the line or give a part of it a name`];
    }),
  );
  expect(long).toEqual([]);
});

test("the environment is read by the configuration of server, worker and agent and nowhere else", () => {
  const applies = (path: string) =>
    !ENVIRONMENT_READERS.test(path) && !isTestFile(path) && !isExcepted("environment", path);
  const advice = "read it in the config of runtime/node, worker or deploy-agent and pass the value as an argument";
  expect(hits("code", /\bprocess\s*\.\s*env\b/g, advice, applies)).toEqual([]);
});

test("the product speaks through its logger", () => {
  const applies = (path: string) => !CONSOLE_WRITERS.test(path) && !isTestFile(path) && !isExcepted("console", path);
  expect(hits("code", /\bconsole\s*\./g, "use the Logger of core/ports/logger.ts", applies)).toEqual([]);
});

test("nothing is left for later", () => {
  const leftover = new RegExp(
    String.raw`\b(?:${["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"].join("|")})\b`,
    "g",
  );
  const advice = "do it now, or open an issue and say here what holds today";
  expect(hits("text", leftover, advice, () => true)).toEqual([]);
});

test("every test runs, unless the machine lacks what it needs", () => {
  const advice = "run it always, or say by skipIf or runIf which tool must be there";
  const switchedOff = /\b(?:test|it|describe|suite|bench)(?:\s*\.\s*\w+)*?\s*\.\s*(?:only|skip|todo)\b/g;
  expect(hits("code", switchedOff, advice, () => true)).toEqual([]);
});

test("the repository names no folder of one machine", () => {
  const machinePath = new RegExp(String.raw`(?<![\w.})])/(?:${["work", "root"].join("|")})/[\w.-]*`, "g");
  const advice = "take it from a setting, the working folder or mkdtemp";
  expect(hits("text", machinePath, advice, () => true)).toEqual([]);
});

test("imports keep to the layers, and no file only passes on the names of others", () => {
  expect(checkLayers(files).map(({ path, line, message }) => `${path}:${line}  ${message}`)).toEqual([]);
});

// Last: the rules above note which exceptions they needed.
test("every exception is still needed", () => {
  const idle = EXCEPTIONS.filter((one) => !usedExceptions.has(one));
  expect(idle.map(({ rule, path }) => `${rule} of ${path}: take it out of the list`)).toEqual([]);
});
