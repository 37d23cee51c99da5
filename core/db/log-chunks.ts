import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface LogPosition {
  readonly bytes: number;
  readonly lines: number;
}

/** How much of the attempt's log is stored. Undefined when there is no such attempt. */
export async function findLogPosition(db: Kysely<Database>, attemptId: string): Promise<LogPosition | undefined> {
  return await db
    .selectFrom("attempt")
    .select(["log_bytes as bytes", "log_lines as lines"])
    .where("id", "=", attemptId)
    .executeTakeFirst();
}

/**
 * Appends to a log at `position`, in one statement: the attempt's counters and the chunk change together. False when
 * the log has another length by now (another session of the worker wrote it), or was sealed: the caller looks again.
 */
export async function appendLog(
  db: Kysely<Database>,
  attemptId: string,
  position: LogPosition,
  { data, lines }: { readonly data: Uint8Array; readonly lines: number },
): Promise<boolean> {
  const result = await sql<{ id: string }>`
    with grown as (
      update attempt set log_bytes = log_bytes + ${data.length}, log_lines = log_lines + ${lines}
      where id = ${attemptId} and log_bytes = ${position.bytes} and not log_sealed
      returning id
    )
    insert into attempt_log_chunk (attempt_id, byte_start, byte_length, line_start, data)
    select id, ${position.bytes}, ${data.length}, ${position.lines}, ${data} from grown
    returning attempt_id as id`.execute(db);
  return result.rows.length === 1;
}
