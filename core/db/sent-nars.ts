import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import { databaseNow } from "./time.ts";

export interface Sender {
  readonly cacheId: string;
  readonly userId: string;
}

/** Notes that the NAR's bytes came from this sender. Takes the transaction that records the NAR. */
export async function recordSentNar(
  trx: Transaction<Database>,
  { cacheId, userId }: Sender,
  nar: { readonly narHash: Uint8Array; readonly fileHash: Uint8Array },
): Promise<void> {
  await trx
    .insertInto("sent_nar")
    .values({ cache_id: cacheId, user_id: userId, nar_hash: nar.narHash, file_hash: nar.fileHash })
    .onConflict((conflict) =>
      conflict.columns(["cache_id", "user_id", "nar_hash"]).doUpdateSet({
        file_hash: nar.fileHash,
        sent_at: databaseNow,
      }),
    )
    .execute();
}

/**
 * Which sound NARs exist for this sender: those whose bytes came from them to this cache, those that a path of this
 * cache names, and those that everybody can read. One statement whatever there is, so that its time tells nothing of
 * others'.
 */
export async function listReachableNars(
  db: Kysely<Database>,
  { cacheId, userId }: Sender,
  narHashes: readonly Uint8Array[],
): Promise<{ nar_hash: Uint8Array; nar_size: number }[]> {
  const result = await sql<{ nar_hash: Uint8Array; nar_size: number }>`
    with reachable as (
      select nar_hash from sent_nar
      where cache_id = ${cacheId} and user_id = ${userId} and nar_hash = any(${narHashes}::bytea[])
      union
      select cache_path.nar_hash from cache_path join cache on cache.id = cache_path.cache_id
      where cache_path.nar_hash = any(${narHashes}::bytea[])
        and (cache.id = ${cacheId} or (cache.public and cache.active and cache.kind = 0))
    )
    select nar.nar_hash, nar.nar_size from reachable join nar using (nar_hash) where nar.damaged_at is null`.execute(
    db,
  );
  return result.rows;
}

/** Whether this sender has sent the file of this hash, and its NAR is sound and waits for a path. */
export async function isFileSent(
  db: Kysely<Database>,
  { cacheId, userId }: Sender,
  fileHash: Uint8Array,
): Promise<boolean> {
  const row = await db
    .selectFrom("sent_nar")
    .innerJoin("nar", "nar.nar_hash", "sent_nar.nar_hash")
    .select("sent_nar.nar_hash")
    .where("sent_nar.cache_id", "=", cacheId)
    .where("sent_nar.user_id", "=", userId)
    .where("sent_nar.file_hash", "=", fileHash)
    .where("nar.damaged_at", "is", null)
    .executeTakeFirst();
  return row !== undefined;
}

/** Paths name these now. */
export async function deleteSentNars(
  trx: Transaction<Database>,
  { cacheId, userId }: Sender,
  narHashes: readonly Uint8Array[],
): Promise<void> {
  await trx
    .deleteFrom("sent_nar")
    .where("cache_id", "=", cacheId)
    .where("user_id", "=", userId)
    .where("nar_hash", "=", sql<Uint8Array>`any(${narHashes}::bytea[])`)
    .execute();
}

/** Returns how many went. */
export async function deleteOldSentNars(
  db: Kysely<Database>,
  { keptMs, limit }: { readonly keptMs: number; readonly limit: number },
): Promise<number> {
  const result = await sql`
    delete from sent_nar where (cache_id, user_id, nar_hash) in (
      select cache_id, user_id, nar_hash from sent_nar
      where sent_at < gradient_now() - ${keptMs}::float8 * interval '1 millisecond'
      order by sent_at limit ${limit} for update skip locked)`.execute(db);
  return Number(result.numAffectedRows ?? 0);
}
