import { fromUtf8Lossy } from "#core/lib/bytes.ts";
import type { DaemonEvent } from "./events.ts";
import { LOG_TEXT_BYTES_MAX } from "./limits.ts";
import { FrameCode, ResultType } from "./numbers.ts";

/** Code, id, type, count of fields, type of the field, length of the text: 8 bytes each. */
const HEAD_BYTES = 48;
const RESULT = Number(FrameCode.result);
const TEXT_FIELD = 1;

/**
 * The frames at the beginning of these bytes that are lines of a builder's log, each with where it ends. Stops at
 * anything else, at a frame that is not here as a whole, and at whatever `readFrame` should look at more closely: it is
 * the short way for what a loud build sends by the million.
 */
export function* logLineFrames(bytes: Uint8Array): Generator<{ readonly event: DaemonEvent; readonly end: number }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let start = 0;
  while (bytes.length - start >= HEAD_BYTES) {
    const isLine =
      smallWord(view, start) === RESULT &&
      smallWord(view, start + 16) === ResultType.buildLogLine &&
      smallWord(view, start + 24) === 1 &&
      smallWord(view, start + 32) === TEXT_FIELD;
    if (!isLine) return;
    const length = smallWord(view, start + 40);
    if (length < 0 || length > LOG_TEXT_BYTES_MAX) return;
    const textEnd = start + HEAD_BYTES + length;
    const end = textEnd + ((8 - (length % 8)) % 8);
    if (end > bytes.length) return;
    for (let at = textEnd; at < end; at++) if (bytes[at] !== 0) return;
    const id = view.getBigUint64(start + 8, true);
    const text = fromUtf8Lossy(bytes.subarray(start + HEAD_BYTES, textEnd));
    yield { event: { kind: "result", id, type: ResultType.buildLogLine, fields: [text] }, end };
    start = end;
  }
}

/** -1 for a word that needs more than 32 bits. */
function smallWord(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) === 0 ? view.getUint32(at, true) : -1;
}
