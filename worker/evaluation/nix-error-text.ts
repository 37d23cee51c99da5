import type { NixErrorReport } from "./nix-log.ts";

/** Nix indents everything of an error but its first line by so much. */
const INDENT = "       ";
const PLACE = /^at (.+):(\d+):(\d+):?$/;
const SOURCE_LINE = /^ *(?:\d+)? *\|/;
const ADVICE = /^\((?:use '--show-trace'|stack trace truncated)/;

/**
 * An error as Nix prints it for people: `error:`, its words and the place, or first what led there and then a second,
 * indented `error:` (2.20 and later). The text has no colours. Null for a text that is no error.
 */
export function parseNixErrorText(text: string): NixErrorReport | null {
  const lines = text.split("\n");
  if (!lines[0]?.startsWith("error:")) return null;
  let start = 0;
  if (lines[0].trim() === "error:") {
    const inner = lines.findIndex((line, index) => index > 0 && line.startsWith(`${INDENT}error:`));
    if (inner !== -1) start = inner;
  }
  const first = (lines[start] as string).trimStart().slice("error:".length).trim();
  const words = [first];
  const hints: string[] = [];
  let place: RegExpExecArray | null = null;
  for (const line of lines.slice(start + 1).map(unindented)) {
    if (ADVICE.test(line)) break;
    const found = PLACE.exec(line);
    if (found && place === null) place = found;
    else if (place === null) words.push(line);
    // Behind the place stand lines of the source, then hints.
    else if (line !== "" && !SOURCE_LINE.test(line)) hints.push(line);
  }
  return {
    words: [words.join("\n").trim(), ...hints].join("\n"),
    file: place?.[1] ?? null,
    line: place ? Number(place[2]) : null,
    column: place ? Number(place[3]) : null,
  };
}

function unindented(line: string): string {
  return line.startsWith(INDENT) ? line.slice(INDENT.length) : line.trimStart();
}
