import type { LogChunksView, LogLinesQuery, LogSearchEnd, LogSearchHit } from "../api/builds.ts";
import { findAttemptOfLink } from "../db/builds-read.ts";
import { LINE_FEED, type LogRange } from "../db/logs.ts";
import type { LogIndex } from "../db/logs-index.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { ByteStream } from "../lib/streams.ts";
import { findLogIndex, findPlaceBefore, type LogReadDeps, readLogBytes } from "./build-logs-read.ts";
import { type LineSearch, searchLines } from "./build-logs-search.ts";
import { requireBuild } from "./builds.ts";

/** Matching lines that are listed; the others are only counted. */
const SEARCH_HITS_MAX = 10_000;

/** Everything that was written so far; empty while no worker has begun. */
export async function readWholeLog(deps: LogReadDeps, actor: Actor, buildId: string): Promise<ByteStream> {
  return bytesOf(deps, await requireLog(deps, actor, buildId), { start: 0 });
}

export async function describeLog(deps: LogReadDeps, actor: Actor, buildId: string): Promise<LogChunksView> {
  const { chunks, lines, bytes } = await indexOf(deps, await requireLog(deps, actor, buildId));
  return {
    total_chunks: chunks.length,
    total_lines: lines,
    total_bytes: bytes,
    chunks: chunks.map(({ byteStart, byteLength, lineStart, lineCount }, index) => ({
      index,
      line_start: lineStart,
      line_count: lineCount,
      byte_start: byteStart,
      byte_len: byteLength,
    })),
  };
}

export async function readLogChunk(
  deps: LogReadDeps,
  actor: Actor,
  buildId: string,
  index: number,
): Promise<ByteStream> {
  const attemptId = await requireLog(deps, actor, buildId);
  const chunk = (await indexOf(deps, attemptId)).chunks[index];
  if (!chunk) throw new DomainError("not_found", "The log has no such chunk");
  return bytesOf(deps, attemptId, { start: chunk.byteStart, end: chunk.byteStart + chunk.byteLength });
}

/** Lines count from 1 and both ends belong to the range; what lies behind the log's end is empty. */
export async function readLogLines(
  deps: LogReadDeps,
  actor: Actor,
  buildId: string,
  range: LogLinesQuery,
): Promise<ByteStream> {
  const attemptId = await requireLog(deps, actor, buildId);
  return attemptId === null ? bytesOf(deps, null, { start: 0 }) : cutLines(deps, attemptId, range);
}

/** Each line that holds the text, and at the end how many there were. */
export async function searchLog(
  deps: LogReadDeps,
  actor: Actor,
  buildId: string,
  search: LineSearch,
): Promise<AsyncGenerator<LogSearchHit | LogSearchEnd>> {
  const attemptId = await requireLog(deps, actor, buildId);
  return hits(deps, attemptId, await indexOf(deps, attemptId), search);
}

/** The attempt whose log the build shows; null before the first. */
async function requireLog(deps: LogReadDeps, actor: Actor, buildId: string): Promise<string | null> {
  await requireBuild(deps, actor, buildId);
  return (await findAttemptOfLink(deps.db, buildId))?.id ?? null;
}

async function indexOf(deps: LogReadDeps, attemptId: string | null): Promise<LogIndex> {
  return attemptId === null ? { bytes: 0, lines: 0, chunks: [] } : await findLogIndex(deps, attemptId);
}

async function* bytesOf(deps: LogReadDeps, attemptId: string | null, range: LogRange): AsyncGenerator<Uint8Array> {
  if (attemptId === null) return;
  for await (const { bytes } of readLogBytes(deps, attemptId, range)) yield bytes;
}

async function* cutLines(
  deps: LogReadDeps,
  attemptId: string,
  { first, last }: LogLinesQuery,
): AsyncGenerator<Uint8Array> {
  const place = await findPlaceBefore(deps, attemptId, first - 1);
  let before = first - 1 - place.lineStart;
  let wanted = last === undefined ? Number.POSITIVE_INFINITY : last - first + 1;
  for await (const bytes of bytesOf(deps, attemptId, { start: place.byteStart })) {
    const start = before > 0 ? skipLines(bytes, 0, before) : { position: 0, passed: 0 };
    before -= start.passed;
    if (before > 0) continue;
    const end = skipLines(bytes, start.position, wanted);
    wanted -= end.passed;
    if (end.position > start.position) yield bytes.subarray(start.position, end.position);
    if (wanted === 0) return;
  }
}

/** Behind the `count`th line feed, or the end of the bytes when they hold fewer. */
function skipLines(bytes: Uint8Array, from: number, count: number): { position: number; passed: number } {
  let position = from;
  let passed = 0;
  while (passed < count) {
    const lineFeed = bytes.indexOf(LINE_FEED, position);
    if (lineFeed === -1) return { position: bytes.length, passed };
    position = lineFeed + 1;
    passed++;
  }
  return { position, passed };
}

async function* hits(
  deps: LogReadDeps,
  attemptId: string | null,
  { chunks }: LogIndex,
  search: LineSearch,
): AsyncGenerator<LogSearchHit | LogSearchEnd> {
  let total = 0;
  let chunkIndex = 0;
  for await (const { lineNumber, byteOffset, preview } of searchLines(bytesOf(deps, attemptId, { start: 0 }), search)) {
    if (++total > SEARCH_HITS_MAX) continue;
    while (byteOffset >= (chunks[chunkIndex + 1]?.byteStart ?? Number.POSITIVE_INFINITY)) chunkIndex++;
    yield { line_number: lineNumber, chunk_index: chunkIndex, byte_offset: byteOffset, preview };
  }
  yield { done: true, total_matches: total };
}
