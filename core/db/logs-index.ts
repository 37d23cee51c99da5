import { type Kysely, sql } from "kysely";
import { findLogEnd, type LogPosition } from "./logs.ts";
import type { Database } from "./schema.ts";

/** A log is shown in parts of about this size, whatever rows it came in; 512 MiB are 2048 of them. */
const LOG_CHUNK_BYTES: number = 256 * 1024;

export interface LogChunk extends LogPosition {
  readonly lineCount: number;
  readonly byteLength: number;
}

export interface LogIndex {
  readonly bytes: number;
  readonly lines: number;
  readonly chunks: readonly LogChunk[];
}

/**
 * Cuts a log at ends of lines: a chunk begins after the first line feed past each multiple of `LOG_CHUNK_BYTES`. A
 * chunk that another one follows therefore never changes, also while the log grows.
 */
export async function readLogIndex(db: Kysely<Database>, attemptId: string): Promise<LogIndex> {
  const end = await findLogEnd(db, attemptId);
  const cuts = (await listCuts(db, attemptId)).filter(({ byteStart }) => byteStart < end.bytes);
  const starts = end.bytes > 0 ? [{ byteStart: 0, lineStart: 0 }, ...cuts] : [];
  const chunks = starts.map((start, index) => {
    const next = starts[index + 1];
    return {
      ...start,
      byteLength: (next?.byteStart ?? end.bytes) - start.byteStart,
      lineCount: (next?.lineStart ?? end.lines) - start.lineStart,
    };
  });
  return { ...end, chunks };
}

async function listCuts(db: Kysely<Database>, attemptId: string): Promise<LogPosition[]> {
  // First the rows to cut in, found without their data: a row holds a line feed when the next one has a higher
  // line_start, or when it is the last and the look into it says so.
  const { rows } = await sql<LogPosition>`
    with row as (
      select byte_start, line_start, byte_start / ${LOG_CHUNK_BYTES}::bigint as part,
        lead(line_start) over (order by byte_start) as next_line_start
      from attempt_log_chunk where attempt_id = ${attemptId}
    ),
    first_row as materialized (
      select min(byte_start) as byte_start from row
      where part > 0 and (next_line_start is null or next_line_start > line_start)
      group by part
    )
    select chunk.byte_start + position('\\x0a'::bytea in chunk.data) as "byteStart",
      chunk.line_start + 1 as "lineStart"
    from first_row join attempt_log_chunk chunk
      on chunk.attempt_id = ${attemptId} and chunk.byte_start = first_row.byte_start
    where position('\\x0a'::bytea in chunk.data) > 0
    order by chunk.byte_start
  `.execute(db);
  return rows;
}
