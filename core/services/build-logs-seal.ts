import { LINE_FEED, readLog } from "../db/logs.ts";
import { readLogIndex } from "../db/logs-index.ts";
import { listUnsealedLogs, replaceLogRows, type UnsealedLog } from "../db/sealed-logs.ts";
import type { LinePlace } from "../db/tables/sealed-log.ts";
import { concatBytes } from "../lib/bytes.ts";
import { MINUTE } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import { type ByteStream, streamOf } from "../lib/streams.ts";
import type { LogReadDeps } from "./build-logs-read.ts";
import type { ServiceDeps } from "./deps.ts";

export interface LogSealDeps extends LogReadDeps, Pick<ServiceDeps, "clock" | "random" | "log"> {
  /** What of a log is compressed together: a reader of one line reads this much. */
  readonly logFrameBytes: number;
}

/** The last lines may arrive after the result, and who follows the log reads its rows. */
const REST_MS: number = 5 * MINUTE;
const LOGS_AT_A_TIME = 32;
const LEVEL = 3;

/**
 * Moves logs of attempts that ended a while ago out of the database, compressed, into the blob store; returns whether
 * there may be more of them. Several servers may do it at once: one of them wins each log, and the others delete what
 * they wrote. Dies the process between the object and its row, the log stays in its rows and the object is nobody's.
 */
export async function sealEndedLogs(deps: LogSealDeps, signal: AbortSignal): Promise<boolean> {
  const logs = await listUnsealedLogs(deps.db, { restMs: REST_MS, limit: LOGS_AT_A_TIME });
  let sealed = 0;
  for (const log of logs) {
    if (signal.aborted) return false;
    try {
      await seal(deps, log);
      sealed++;
    } catch (error) {
      deps.log.error("a build's log could not be moved to the storage; it stays in the database", {
        attempt: log.attemptId,
        error,
      });
    }
  }
  // Where none could be moved, the next look is soon enough.
  return logs.length === LOGS_AT_A_TIME && sealed > 0;
}

async function seal(deps: LogSealDeps, { attemptId, bytes }: UnsealedLog): Promise<void> {
  const { db, blobs, clock, random, logFrameBytes } = deps;
  const index = await readLogIndex(db, attemptId);
  const key = `log/${attemptId}/${uuidV7(clock.now(), random)}`;
  const frames: LinePlace[] = [];
  const { size } = await blobs.put(key, compressFrames(deps, attemptId, { bytes, frames }));
  const replaced = await replaceLogRows(db, {
    attempt_id: attemptId,
    object_key: key,
    bytes,
    lines: index.lines,
    file_bytes: size,
    frame_bytes: logFrameBytes,
    frames,
    chunks: index.chunks.map(({ byteStart, lineStart }) => [byteStart, lineStart]),
  });
  if (!replaced) await blobs.delete(key);
}

/** Notes in `frames` where each begins. Throws when the rows are not the whole log. */
async function* compressFrames(
  { db, codec, logFrameBytes }: LogSealDeps,
  attemptId: string,
  { bytes, frames }: { readonly bytes: number; readonly frames: LinePlace[] },
): ByteStream {
  let fileStart = 0;
  let lineStart = 0;
  let read = 0;
  for await (const frame of cut(readRows(db, attemptId, bytes), logFrameBytes)) {
    frames.push([fileStart, lineStart]);
    for await (const part of codec.compressZstd(streamOf(frame), { level: LEVEL })) {
      fileStart += part.length;
      yield part;
    }
    for (const byte of frame) if (byte === LINE_FEED) lineStart++;
    read += frame.length;
  }
  if (read !== bytes) throw new Error(`the log's rows hold ${read} bytes of ${bytes}`);
}

async function* readRows(db: LogSealDeps["db"], attemptId: string, end: number): AsyncGenerator<Uint8Array> {
  for await (const part of readLog(db, attemptId, { start: 0, end })) yield part.bytes;
}

/** Pieces of exactly `size` bytes, but for the last. */
async function* cut(body: ByteStream, size: number): AsyncGenerator<Uint8Array> {
  let held: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of body) {
    let rest = bytes;
    while (length + rest.length >= size) {
      const fill = size - length;
      yield concatBytes([...held, rest.subarray(0, fill)]);
      rest = rest.subarray(fill);
      held = [];
      length = 0;
    }
    if (rest.length === 0) continue;
    held.push(rest);
    length += rest.length;
  }
  if (length > 0) yield concatBytes(held);
}
