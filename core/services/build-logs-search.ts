import { concatBytes, fromUtf8Lossy } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";

const LINE_FEED = 0x0a;
/** Longer lines are looked at in parts of this size, so that a log without a line feed does not fill the memory. */
const PART_BYTES_MAX: number = 64 * 1024;
const PREVIEW_LENGTH_MAX = 200;
/** What of a line is shown before a match that lies far to the right. */
const PREVIEW_LENGTH_BEFORE = 60;
/** Colours and other sequences of a terminal (ECMA-48 section 5.4): nobody searches for them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what begins them.
const TERMINAL_SEQUENCE = /\x1b\[[0-9:;<=>?]*[ -/]*[@-~]/g;
/** Bytes of one UTF-16 unit in UTF-8. Between two parts of a long line terminal sequences are not looked through. */
const BYTES_OF_UNIT_MAX = 3;

export interface LineSearch {
  readonly text: string;
  readonly caseSensitive: boolean;
}

export interface MatchingLine {
  /** Counts from 1. */
  readonly lineNumber: number;
  /** Of the line's first byte. */
  readonly byteOffset: number;
  /** The line without terminal sequences, cut around the match. */
  readonly preview: string;
}

/** The lines that hold the text, in order, each once. Holds at most one part of a line in memory. */
export async function* searchLines(log: ByteStream, search: LineSearch): AsyncGenerator<MatchingLine> {
  const overlapBytes = search.text.length * BYTES_OF_UNIT_MAX;
  let lineNumber = 1;
  let byteOffset = 0;
  let length = 0;
  let matched = false;
  let held: Uint8Array = new Uint8Array(0);
  for await (const bytes of log) {
    let position = 0;
    while (position < bytes.length) {
      const lineFeed = bytes.indexOf(LINE_FEED, position);
      const lineEnds = lineFeed !== -1;
      const part = bytes.subarray(position, lineEnds ? lineFeed : bytes.length);
      length += part.length + (lineEnds ? 1 : 0);
      position += part.length + (lineEnds ? 1 : 0);
      const whole = held.length > 0 ? concatBytes([held, part]) : part;
      const look = !matched && (lineEnds || whole.length > PART_BYTES_MAX);
      const preview = look ? findIn(whole, search) : null;
      if (preview !== null) {
        matched = true;
        yield { lineNumber, byteOffset, preview };
      }
      if (lineEnds) {
        lineNumber++;
        byteOffset += length;
        length = 0;
        matched = false;
        held = new Uint8Array(0);
      } else {
        held = matched ? new Uint8Array(0) : look ? whole.slice(-overlapBytes) : whole.slice();
      }
    }
  }
  const preview = !matched && held.length > 0 ? findIn(held, search) : null;
  if (preview !== null) yield { lineNumber, byteOffset, preview };
}

function findIn(line: Uint8Array, { text, caseSensitive }: LineSearch): string | null {
  const shown = fromUtf8Lossy(line).replace(TERMINAL_SEQUENCE, "").replace(/\r$/, "");
  const index = caseSensitive ? shown.indexOf(text) : shown.toLowerCase().indexOf(text.toLowerCase());
  if (index === -1) return null;
  const from = index + text.length <= PREVIEW_LENGTH_MAX ? 0 : Math.max(index - PREVIEW_LENGTH_BEFORE, 0);
  return shown.slice(from, from + PREVIEW_LENGTH_MAX);
}
