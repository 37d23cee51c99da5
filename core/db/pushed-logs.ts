import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";

export interface PushedLog {
  /** Compressed with zstd. */
  readonly log: Uint8Array;
  readonly size: number;
}

/** First come, first kept: false when the cache has a log of the derivation (its base name) already. */
export async function insertPushedLog(
  db: Kysely<Database>,
  { cacheId, derivation, log, size }: PushedLog & { readonly cacheId: string; readonly derivation: string },
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
  { cacheId, derivation }: { readonly cacheId: string; readonly derivation: string },
): Promise<PushedLog | undefined> {
  return await db
    .selectFrom("cache_log")
    .select(["log", "log_size as size"])
    .where("cache_id", "=", cacheId)
    .where("derivation", "=", derivation)
    .executeTakeFirst();
}
