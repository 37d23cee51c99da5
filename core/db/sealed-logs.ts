import { type Kysely, type Selectable, sql } from "kysely";
import type { Database } from "./schema.ts";
import type { LinePlace, SealedLogTable } from "./tables/sealed-log.ts";
import { inTransaction } from "./transaction.ts";

export type SealedLog = Omit<Selectable<SealedLogTable>, "created_at">;

export async function findSealedLog(db: Kysely<Database>, attemptId: string): Promise<SealedLog | undefined> {
  return await db
    .selectFrom("sealed_log")
    .select(["attempt_id", "object_key", "bytes", "lines", "file_bytes", "frame_bytes", "frames", "chunks"])
    .where("attempt_id", "=", attemptId)
    .executeTakeFirst();
}

export interface UnsealedLog {
  readonly attemptId: string;
  readonly bytes: number;
}

/** Logs of attempts that ended at least `restMs` ago, the longest ended first. */
export async function listUnsealedLogs(
  db: Kysely<Database>,
  { restMs, limit }: { readonly restMs: number; readonly limit: number },
): Promise<UnsealedLog[]> {
  return await db
    .selectFrom("attempt")
    .select(["id as attemptId", "log_bytes as bytes"])
    .where("log_sealed", "=", false)
    .where("log_bytes", ">", 0)
    .where("finished_at", "<", sql<Date>`gradient_now() - ${restMs}::float8 * interval '1 millisecond'`)
    .orderBy("finished_at")
    .limit(limit)
    .execute();
}

/**
 * Puts the sealed log in the place of the log's rows, in one transaction. False when the log has another length by now,
 * is sealed already, or its attempt is gone: the object is nobody's then.
 */
export async function replaceLogRows(db: Kysely<Database>, log: SealedLog): Promise<boolean> {
  return await inTransaction(db, async (tx) => {
    const { numUpdatedRows } = await tx
      .updateTable("attempt")
      .set({ log_sealed: true })
      .where("id", "=", log.attempt_id)
      .where("log_sealed", "=", false)
      .where("log_bytes", "=", log.bytes)
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) return false;
    const json = (places: readonly LinePlace[]): string => JSON.stringify(places);
    await tx
      .insertInto("sealed_log")
      .values({ ...log, frames: json(log.frames), chunks: json(log.chunks) })
      .execute();
    await tx.deleteFrom("attempt_log_chunk").where("attempt_id", "=", log.attempt_id).execute();
    return true;
  });
}
