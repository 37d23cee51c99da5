import { findBeforeLine, type LogPart, type LogPosition, type LogRange, readLog } from "../db/logs.ts";
import { type LogIndex, readLogIndex } from "../db/logs-index.ts";
import { findSealedLog, type SealedLog } from "../db/sealed-logs.ts";
import type { LinePlace } from "../db/tables/sealed-log.ts";
import { assert } from "../lib/assert.ts";
import { collect } from "../lib/streams.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { Codec } from "../ports/codec.ts";
import type { ServiceDeps } from "./deps.ts";

export interface LogReadDeps extends Pick<ServiceDeps, "db"> {
  readonly blobs: BlobStore;
  readonly codec: Codec;
}

/**
 * The log's bytes in order, a bounded part at a time, wherever they are kept now: its rows may be sealed into an object
 * while it is read. Throws when a sealed log's object is missing or damaged.
 */
export async function* readLogBytes(
  deps: LogReadDeps,
  attemptId: string,
  { start, end = Number.MAX_SAFE_INTEGER }: LogRange,
): AsyncGenerator<LogPart> {
  let next = start;
  for await (const part of readLog(deps.db, attemptId, { start, end })) {
    next = part.byteStart + part.bytes.length;
    yield part;
  }
  if (next >= end) return;
  const sealed = await findSealedLog(deps.db, attemptId);
  if (sealed) yield* readFrames(deps, sealed, { start: next, end });
}

/** What is known of the whole log, and where the parts of it begin that readers are shown. */
export async function findLogIndex(deps: LogReadDeps, attemptId: string): Promise<LogIndex> {
  // In this order: rows that vanish while they are counted are sealed when they are asked for afterwards.
  const index = await readLogIndex(deps.db, attemptId);
  const sealed = await findSealedLog(deps.db, attemptId);
  return sealed ? indexOf(sealed) : index;
}

/** A place at or before the beginning of line `line` (counted from 0), and not far from it. */
export async function findPlaceBefore(deps: LogReadDeps, attemptId: string, line: number): Promise<LogPosition> {
  const place = await findBeforeLine(deps.db, attemptId, line);
  const sealed = await findSealedLog(deps.db, attemptId);
  if (!sealed) return place;
  const index = lastBefore(sealed.frames, line);
  return { byteStart: index * sealed.frame_bytes, lineStart: placeAt(sealed.frames, index)[1] };
}

async function* readFrames(
  { blobs, codec }: LogReadDeps,
  sealed: SealedLog,
  { start, end }: Required<LogRange>,
): AsyncGenerator<LogPart> {
  for (let byteStart = start; byteStart < Math.min(end, sealed.bytes); ) {
    const index = Math.floor(byteStart / sealed.frame_bytes);
    const fileStart = placeAt(sealed.frames, index)[0];
    const fileEnd = sealed.frames[index + 1]?.[0] ?? sealed.file_bytes;
    const blob = await blobs.get(sealed.object_key, { start: fileStart, length: fileEnd - fileStart });
    if (blob?.size !== sealed.file_bytes) {
      await blob?.discard();
      throw new Error(`the log of attempt ${sealed.attempt_id} is lost: its object is ${blob ? "damaged" : "missing"}`);
    }
    const body = codec.decompress("zstd", blob.body);
    assert(body, "what this runtime compressed it can read");
    const frameStart = index * sealed.frame_bytes;
    const frame = await collect(body, sealed.frame_bytes);
    const bytes = frame.subarray(byteStart - frameStart, Math.max(end - frameStart, 0));
    if (bytes.length === 0) throw new Error(`the log of attempt ${sealed.attempt_id} is damaged`);
    yield { byteStart, bytes };
    byteStart += bytes.length;
  }
}

function indexOf({ bytes, lines, chunks }: SealedLog): LogIndex {
  return {
    bytes,
    lines,
    chunks: chunks.map(([byteStart, lineStart], index) => {
      const [byteEnd, lineEnd] = chunks[index + 1] ?? [bytes, lines];
      return { byteStart, lineStart, byteLength: byteEnd - byteStart, lineCount: lineEnd - lineStart };
    }),
  };
}

/** The last frame that begins before the line does. */
function lastBefore(frames: readonly LinePlace[], line: number): number {
  const index = frames.findLastIndex(([, lineStart]) => lineStart < line);
  return Math.max(index, 0);
}

function placeAt(frames: readonly LinePlace[], index: number): LinePlace {
  const place = frames[index];
  assert(place, "a sealed log has a frame for each of its bytes");
  return place;
}
