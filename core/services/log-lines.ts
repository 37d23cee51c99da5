import { LINE_FEED, type LogPart } from "../db/logs.ts";
import { concatBytes, fromUtf8Lossy } from "../lib/bytes.ts";

/** A longer line is cut into several. */
const LINE_BYTES_MAX: number = 64 * 1024;
/** Labels may be much longer than the lines. */
const TEXT_LENGTH_MAX: number = 64 * 1024;

export interface LabelledText {
  /** Whole lines. */
  readonly text: string;
  /** The first byte of the log that is not in it. */
  readonly position: number;
}

/** The log's lines with the label before each. What follows the last line feed is kept back, unless `final`. */
export async function* labelLines(
  parts: AsyncIterable<LogPart>,
  label: string,
  { final }: { readonly final: boolean },
): AsyncGenerator<LabelledText> {
  let carry = new Uint8Array();
  let end = 0;
  for await (const part of parts) {
    const bytes = carry.length > 0 ? concatBytes([carry, part.bytes]) : part.bytes;
    end = part.byteStart + part.bytes.length;
    const start = end - bytes.length;
    let text = "";
    let from = 0;
    for (let line = nextLine(bytes, from); line !== null; line = nextLine(bytes, from)) {
      text += `${label}${fromUtf8Lossy(bytes.subarray(from, line.end))}\n`;
      from = line.next;
      if (text.length < TEXT_LENGTH_MAX) continue;
      yield { text, position: start + from };
      text = "";
    }
    if (text !== "") yield { text, position: start + from };
    carry = bytes.slice(from);
  }
  if (final && carry.length > 0) yield { text: `${label}${fromUtf8Lossy(carry)}\n`, position: end };
}

function nextLine(bytes: Uint8Array, from: number): { readonly end: number; readonly next: number } | null {
  const lineFeed = bytes.indexOf(LINE_FEED, from);
  const length = (lineFeed === -1 ? bytes.length : lineFeed) - from;
  if (length <= LINE_BYTES_MAX) return lineFeed === -1 ? null : { end: lineFeed, next: lineFeed + 1 };
  let end = from + LINE_BYTES_MAX;
  // Between characters, where it is UTF-8: a character has at most three bytes of this form.
  for (let back = 0; back < 3 && ((bytes[end] ?? 0) & 0xc0) === 0x80; back++) end--;
  return { end, next: end };
}
