import { LINE_FEED } from "../db/logs.ts";
import { type DecisiveLines, findDecisiveLines } from "../domain/decisive-lines.ts";
import { concatBytes, fromUtf8Lossy } from "../lib/bytes.ts";
import { findLogIndex, type LogReadDeps, readLogBytes } from "./build-logs-read.ts";

/** Of a long log's end, what is looked through. */
const TAIL_BYTES_MAX: number = 256 * 1024;

/** What of an attempt's log tells why it failed; null when the log cannot be read now, or is lost. */
export async function readDecisiveLines(deps: LogReadDeps, attemptId: string): Promise<DecisiveLines | null> {
  const tail = await readTail(deps, attemptId).catch(() => null);
  return tail && findDecisiveLines(tail.text.split("\n"), tail.firstLine);
}

/** The end of a log in whole lines, but for a line that is longer than all of it. */
async function readTail(
  deps: LogReadDeps,
  attemptId: string,
): Promise<{ readonly text: string; readonly firstLine: number }> {
  const { bytes, chunks } = await findLogIndex(deps, attemptId);
  const wanted = bytes - TAIL_BYTES_MAX;
  const chunk = chunks.findLast(({ byteStart }) => byteStart <= Math.max(wanted, 0));
  if (!chunk) return { text: "", firstLine: 1 };
  let firstLine = chunk.lineStart + 1;
  let position = chunk.byteStart;
  const held: Uint8Array[] = [];
  for await (const part of readLogBytes(deps, attemptId, { start: chunk.byteStart, end: bytes })) {
    const cut = Math.min(Math.max(wanted - position, 0), part.bytes.length);
    firstLine += countLineFeeds(part.bytes.subarray(0, cut));
    position += part.bytes.length;
    if (cut < part.bytes.length) held.push(part.bytes.slice(cut));
  }
  return { text: fromUtf8Lossy(concatBytes(held)), firstLine };
}

function countLineFeeds(bytes: Uint8Array): number {
  let count = 0;
  for (const byte of bytes) if (byte === LINE_FEED) count++;
  return count;
}
