import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";

/**
 * A log is kept as rows that follow each other byte by byte. `line_start` counts the line feeds before the row's first
 * byte; rows end anywhere, also within a line. What one read holds in memory: this window and one row.
 */
const WINDOW_BYTES: number = 256 * 1024;

export interface LogRange {
  readonly start: number;
  /** The first byte that is not wanted; absent, everything there is now. */
  readonly end?: number;
}

export interface LogPart {
  readonly byteStart: number;
  readonly bytes: Uint8Array;
}

/** The log in order, a bounded part at a time, each part read when the consumer asks for it. */
export async function* readLog(
  db: Kysely<Database>,
  attemptId: string,
  { start, end = Number.MAX_SAFE_INTEGER }: LogRange,
): AsyncGenerator<LogPart> {
  let next = await findRowAtByte(db, attemptId, start);
  while (next !== null && next < end) {
    const rows = await listRows(db, attemptId, next);
    for (const { byte_start, data } of rows) {
      const skipped = Math.max(start - byte_start, 0);
      const bytes = data.subarray(skipped, Math.max(end - byte_start, 0));
      if (bytes.length > 0) yield { byteStart: byte_start + skipped, bytes };
    }
    const last = rows.at(-1);
    next = last ? await findRowFromByte(db, attemptId, last.byte_start + 1) : null;
  }
}

/** Whether the attempt ended; also when it is gone. */
export async function isAttemptEnded(db: Kysely<Database>, attemptId: string): Promise<boolean> {
  const open = await db
    .selectFrom("attempt")
    .select("id")
    .where("id", "=", attemptId)
    .where("finished_at", "is", null)
    .executeTakeFirst();
  return open === undefined;
}

export interface LogPosition {
  readonly byteStart: number;
  /** Line feeds before that byte. */
  readonly lineStart: number;
}

/** A place at or before the beginning of line `line` (counted from 0), at most one row away from it. */
export async function findBeforeLine(db: Kysely<Database>, attemptId: string, line: number): Promise<LogPosition> {
  const row = await db
    .selectFrom("attempt_log_chunk")
    .select(["byte_start", "line_start"])
    .where("attempt_id", "=", attemptId)
    .where("line_start", "<", line)
    .orderBy("byte_start", "desc")
    .limit(1)
    .executeTakeFirst();
  return { byteStart: row?.byte_start ?? 0, lineStart: row?.line_start ?? 0 };
}

export interface LogEnd {
  readonly bytes: number;
  /** A last line without a line feed counts. */
  readonly lines: number;
}

/** How long the log is now. */
export async function findLogEnd(db: Kysely<Database>, attemptId: string): Promise<LogEnd> {
  const last = await db
    .selectFrom("attempt_log_chunk")
    .select(["byte_start", "byte_length", "line_start", "data"])
    .where("attempt_id", "=", attemptId)
    .orderBy("byte_start", "desc")
    .limit(1)
    .executeTakeFirst();
  if (!last) return { bytes: 0, lines: 0 };
  let lines = last.line_start;
  for (const byte of last.data) if (byte === LINE_FEED) lines++;
  return { bytes: last.byte_start + last.byte_length, lines: lines + (last.data.at(-1) === LINE_FEED ? 0 : 1) };
}

export const LINE_FEED = 0x0a;

async function findRowAtByte(db: Kysely<Database>, attemptId: string, byte: number): Promise<number | null> {
  const row = await db
    .selectFrom("attempt_log_chunk")
    .select("byte_start")
    .where("attempt_id", "=", attemptId)
    .where("byte_start", "<=", byte)
    .orderBy("byte_start", "desc")
    .limit(1)
    .executeTakeFirst();
  return row?.byte_start ?? (await findRowFromByte(db, attemptId, byte));
}

async function findRowFromByte(db: Kysely<Database>, attemptId: string, byte: number): Promise<number | null> {
  const row = await db
    .selectFrom("attempt_log_chunk")
    .select("byte_start")
    .where("attempt_id", "=", attemptId)
    .where("byte_start", ">=", byte)
    .orderBy("byte_start")
    .limit(1)
    .executeTakeFirst();
  return row?.byte_start ?? null;
}

async function listRows(
  db: Kysely<Database>,
  attemptId: string,
  firstByte: number,
): Promise<{ readonly byte_start: number; readonly data: Uint8Array }[]> {
  return await db
    .selectFrom("attempt_log_chunk")
    .select(["byte_start", "data"])
    .where("attempt_id", "=", attemptId)
    .where("byte_start", ">=", firstByte)
    .where("byte_start", "<", firstByte + WINDOW_BYTES)
    .orderBy("byte_start")
    .execute();
}
