import type { Insertable, Kysely, Transaction } from "kysely";
import type { Database, NarRow, NarTable } from "./schema.ts";
import { databaseNow } from "./time.ts";

export type NewNar = Pick<
  Insertable<NarTable>,
  "nar_hash" | "nar_size" | "file_hash" | "file_size" | "compression" | "object_key"
>;

/** The row of a NAR, damaged or not, held until the transaction ends: nobody replaces or marks it meanwhile. */
export async function lockNarForUpdate(trx: Transaction<Database>, narHash: Uint8Array): Promise<NarRow | undefined> {
  return await trx.selectFrom("nar").selectAll().where("nar_hash", "=", narHash).forUpdate().executeTakeFirst();
}

/** Undefined when another transaction was first; it has committed by the time this returns. */
export async function insertNar(trx: Transaction<Database>, nar: NewNar): Promise<NarRow | undefined> {
  return await trx
    .insertInto("nar")
    .values(nar)
    .onConflict((conflict) => conflict.column("nar_hash").doNothing())
    .returningAll()
    .executeTakeFirst();
}

/** Puts a new object in the place of a damaged one. The caller holds the row (`lockNarForUpdate`). */
export async function replaceNarObject(trx: Transaction<Database>, nar: NewNar): Promise<NarRow> {
  return await trx
    .updateTable("nar")
    .set({
      file_hash: nar.file_hash,
      file_size: nar.file_size,
      compression: nar.compression,
      object_key: nar.object_key,
      verified_at: databaseNow,
      damaged_at: null,
    })
    .where("nar_hash", "=", nar.nar_hash)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Makes `nar/<file hash>` a name of the NAR for good. */
export async function insertNarFile(
  trx: Transaction<Database>,
  fileHash: Uint8Array,
  narHash: Uint8Array,
): Promise<void> {
  await trx
    .insertInto("nar_file")
    .values({ file_hash: fileHash, nar_hash: narHash })
    .onConflict((conflict) => conflict.column("file_hash").doNothing())
    .execute();
}

/**
 * Takes one object out of service. False when that object is not the NAR's any more or was marked before: a reader that
 * is slow to notice cannot hit what has replaced it.
 */
export async function markNarDamaged(
  db: Kysely<Database>,
  { narHash, objectKey }: { readonly narHash: Uint8Array; readonly objectKey: string },
): Promise<boolean> {
  const result = await db
    .updateTable("nar")
    .set({ damaged_at: databaseNow })
    .where("nar_hash", "=", narHash)
    .where("object_key", "=", objectKey)
    .where("damaged_at", "is", null)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** The undamaged NAR that a file name of this cache leads to; only NARs that a path of the cache names. */
export async function findServedNar(
  db: Kysely<Database>,
  { cacheId, fileHash }: { readonly cacheId: string; readonly fileHash: Uint8Array },
): Promise<NarRow | undefined> {
  return await db
    .selectFrom("nar_file")
    .innerJoin("nar", "nar.nar_hash", "nar_file.nar_hash")
    .selectAll("nar")
    .where("nar_file.file_hash", "=", fileHash)
    .where("nar.damaged_at", "is", null)
    .where((where) =>
      where.exists(
        where
          .selectFrom("cache_path")
          .select("cache_path.hash")
          .whereRef("cache_path.nar_hash", "=", "nar.nar_hash")
          .where("cache_path.cache_id", "=", cacheId),
      ),
    )
    .executeTakeFirst();
}

/** The undamaged ones among `narHashes`; none of them is marked or replaced before the transaction ends. */
export async function lockSoundNars(trx: Transaction<Database>, narHashes: readonly Uint8Array[]): Promise<NarRow[]> {
  return await trx
    .selectFrom("nar")
    .selectAll()
    .where("nar_hash", "in", narHashes)
    .where("damaged_at", "is", null)
    .orderBy("nar_hash")
    .forShare()
    .execute();
}

/** Every path of every cache that is served from this NAR. */
export async function listPathsOfNar(
  db: Kysely<Database>,
  narHash: Uint8Array,
): Promise<{ cache_id: string; hash: string }[]> {
  return await db.selectFrom("cache_path").select(["cache_id", "hash"]).where("nar_hash", "=", narHash).execute();
}
