import type { DecisiveLine } from "../api/verdicts.ts";
import { stripAnsi } from "../nix/daemon/ansi.ts";

export interface DecisiveLines {
  /** The builder's phase at the end of the log; null where the log names none. */
  readonly phase: string | null;
  readonly lines: readonly DecisiveLine[];
}

const LINES_MAX = 25;
/** Where no line looks like an error. */
const LAST_LINES = 12;
const LINE_LENGTH_MAX = 400;
/** What belongs to a line that tells of an error: what was done before, and where it points to. */
const LINES_BEFORE = 1;
const LINES_AFTER = 2;

/** As `nix log` shows what the standard environment tells the daemon, and as that says it itself since 2023. */
const PHASE = /^@nix \{"action":"setPhase","phase":"([^"\\]{1,100})"\}$|^Running phase: (\S{1,100})$/;
const ERROR = anyOf(
  /\b(?:\w*error|\w*exception|fatal|fail(?:ed|ure|ures|s)?|traceback|panic(?:ked)?|abort(?:ed|ing)?|killed)\b/,
  /\b(?:undefined reference|undefined symbol|not found|no such file|segmentation fault|assert(?:ion)?)\b/,
  /\b(?:cannot|can't|could not|unable to|denied|refused|timed out|out of memory|no space left)\b/,
  /\b(?:mismatch|invalid|unexpected|unsupported)\b|\*\*\*|\berr!/,
);
/** Words of errors in lines that tell of none. */
const HARMLESS = anyOf(
  /\b(?:0 (?:errors?|failed|failures?|aborted)|no (?:errors?|failures?)|(?:errors?|failed|failures?): *0)\b/,
  /(?:^|: )warning\b/,
  /-w(?:no-)?error|\berror(?:_|-)|\.\.\. *(?:ok|yes|no|passed)$|^checking |^-- (?:looking|performing|check)/,
);

function anyOf(...patterns: readonly RegExp[]): RegExp {
  return new RegExp(patterns.map(({ source }) => source).join("|"), "i");
}

/**
 * What of a failed build's log tells why: of the phase that it ended in, the last lines that look like errors with what
 * stands around them, else the last lines. `lines` are the log's last ones, of which the first has the number `first`.
 */
export function findDecisiveLines(lines: readonly string[], first: number): DecisiveLines {
  const shown = lines.map((text, index) => ({ number: first + index, text: clean(text) }));
  const start = shown.findLastIndex(({ text }) => PHASE.test(text));
  const match = start === -1 ? null : PHASE.exec(shown[start]?.text ?? "");
  const phase = match?.[1] ?? match?.[2] ?? null;
  const said = shown.slice(start + 1).filter(({ text }) => text.trim() !== "");
  // A phase that said nothing: what came before it is all there is.
  const told = said.length > 0 ? said : shown.filter(({ text }) => text.trim() !== "" && !PHASE.test(text));
  return { phase, lines: choose(told).map(({ number, text }) => ({ number, text: text.slice(0, LINE_LENGTH_MAX) })) };
}

function choose(lines: readonly DecisiveLine[]): readonly DecisiveLine[] {
  const chosen = new Set<number>();
  for (let index = lines.length - 1; index >= 0 && chosen.size < LINES_MAX; index--) {
    const text = lines[index]?.text ?? "";
    if (!ERROR.test(text) || HARMLESS.test(text)) continue;
    for (let near = index + LINES_AFTER; near >= index - LINES_BEFORE; near--) {
      if (near >= 0 && near < lines.length && chosen.size < LINES_MAX) chosen.add(near);
    }
  }
  if (chosen.size === 0) return lines.slice(-LAST_LINES);
  return lines.filter((_, index) => chosen.has(index));
}

/** As a terminal shows it: what was written over on the same line is gone. */
function clean(line: string): string {
  const text = stripAnsi(line).replace(/\r+$/, "");
  const shown = text.slice(text.lastIndexOf("\r") + 1);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
  return shown.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
}
