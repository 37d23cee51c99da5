import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface PushedLog {
  /** Compressed with zstd. */
  readonly log: Uint8Array;
  readonly size: number;
}

export interface FoundLog {
  readonly size: number;
  /** Of the compressed log. */
  readonly file_bytes: number;
  readonly created_at: Date;
}

interface LogName {
  readonly cacheId: string;
  /** A store path's base name. */
  readonly derivation: string;
}

/** First come, first kept: false when the cache has a log of the derivation (its base name) already. */
export async function insertPushedLog(
  db: Kysely<Database>,
  { cacheId, derivation, log, size }: PushedLog & LogName,
): Promise<boolean> {
  const result = await db
    .insertInto("cache_log")
    .values({ cache_id: cacheId, derivation, log, log_size: size })
    .onConflict((conflict) => conflict.columns(["cache_id", "derivation"]).doNothing())
    .executeTakeFirst();
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
}

export async function findPushedLog(
  db: Kysely<Database>,
  { cacheId, derivation }: LogName,
): Promise<FoundLog | undefined> {
  return await db
    .selectFrom("cache_log")
    .select(["log_size as size", "created_at", sql<number>`octet_length(log)`.as("file_bytes")])
    .where("cache_id", "=", cacheId)
    .where("derivation", "=", derivation)
    .executeTakeFirst();
}

/** A part of the compressed log; undefined when the log is gone, or was taken away and pushed anew. */
export async function readPushedLog(
  db: Kysely<Database>,
  { cacheId, derivation }: LogName,
  { pushedAt, offset, bytes }: { readonly pushedAt: Date; readonly offset: number; readonly bytes: number },
): Promise<Uint8Array | undefined> {
  const row = await db
    .selectFrom("cache_log")
    .select(sql<Uint8Array>`substring(log from ${offset + 1}::int for ${bytes}::int)`.as("part"))
    .where("cache_id", "=", cacheId)
    .where("derivation", "=", derivation)
    // As a Date tells it.
    .where(sql`date_trunc('milliseconds', created_at)`, "=", pushedAt)
    .executeTakeFirst();
  return row?.part;
}
