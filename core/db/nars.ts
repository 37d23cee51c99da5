import { type Insertable, type Kysely, type SqlBool, sql, type Transaction } from "kysely";
import type { NarHealer } from "../domain/nar-health.ts";
import { recordNarHealed } from "./nar-health.ts";
import type { Database, NarRow, NarTable } from "./schema.ts";
import { databaseNow } from "./time.ts";

export type NewNar = Pick<
  Insertable<NarTable>,
  "nar_hash" | "nar_size" | "file_hash" | "file_size" | "compression" | "object_key"
>;

/**
 * The rows of these NARs, damaged or not, held until the transaction ends: nobody replaces or marks them meanwhile. In
 * order of their hashes.
 */
export async function lockNarsForUpdate(
  trx: Transaction<Database>,
  narHashes: readonly Uint8Array[],
): Promise<NarRow[]> {
  return await trx
    .selectFrom("nar")
    .selectAll()
    .where("nar_hash", "=", sql<Uint8Array>`any(${narHashes}::bytea[])`)
    .orderBy("nar_hash")
    .forUpdate()
    .execute();
}

/**
 * Records NARs, each hash once, with the names of their files. Returns the hashes that are new; another transaction was
 * first with the others, and has committed by the time this returns. To be given in order of their hashes, so that two
 * transactions never wait for each other.
 */
export async function insertNars(trx: Transaction<Database>, nars: readonly NewNar[]): Promise<Uint8Array[]> {
  const result = await sql<{ nar_hash: Uint8Array }>`
    with given as (
      select * from unnest(${nars.map((nar) => nar.nar_hash)}::bytea[], ${nars.map((nar) => nar.nar_size)}::bigint[],
        ${nars.map((nar) => nar.file_hash)}::bytea[], ${nars.map((nar) => nar.file_size)}::bigint[],
        ${nars.map((nar) => nar.compression)}::text[], ${nars.map((nar) => nar.object_key)}::text[])
        as g(nar_hash, nar_size, file_hash, file_size, compression, object_key)
    ), added as (
      insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
      select * from given
      on conflict (nar_hash) do nothing
      returning nar_hash, file_hash
    ), named as (
      insert into nar_file (file_hash, nar_hash) select file_hash, nar_hash from added
      on conflict (file_hash) do nothing
    )
    select nar_hash from added`.execute(trx);
  return result.rows.map((row) => row.nar_hash);
}

/**
 * Puts a new object, whose bytes were proven, in the place of a damaged one, and records who brought it. The caller
 * holds the row (`lockNarsForUpdate`).
 */
export async function replaceNarObject(
  trx: Transaction<Database>,
  nar: NewNar,
  healedBy: NarHealer = "push",
): Promise<NarRow> {
  await recordNarHealed(trx, nar.nar_hash, healedBy);
  return await trx
    .updateTable("nar")
    .set({
      file_hash: nar.file_hash,
      file_size: nar.file_size,
      compression: nar.compression,
      object_key: nar.object_key,
      verified_at: databaseNow,
      unpacked_at: databaseNow,
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

/** The undamaged NAR that a file name of this cache leads to, and one of the cache's paths that name it. */
export async function findServedNar(
  db: Kysely<Database>,
  { cacheId, fileHash }: { readonly cacheId: string; readonly fileHash: Uint8Array },
): Promise<(NarRow & { path_hash: string }) | undefined> {
  return await db
    .selectFrom("nar_file")
    .innerJoin("nar", "nar.nar_hash", "nar_file.nar_hash")
    .innerJoin("cache_path", "cache_path.nar_hash", "nar.nar_hash")
    .selectAll("nar")
    .select("cache_path.hash as path_hash")
    .where("nar_file.file_hash", "=", fileHash)
    .where("nar.damaged_at", "is", null)
    .where("cache_path.cache_id", "=", cacheId)
    .limit(1)
    .executeTakeFirst();
}

/** The undamaged ones among `narHashes`; none of them is marked or replaced before the transaction ends. */
export async function lockSoundNars(trx: Transaction<Database>, narHashes: readonly Uint8Array[]): Promise<NarRow[]> {
  return await trx
    .selectFrom("nar")
    .selectAll()
    .where("nar_hash", "=", sql<Uint8Array>`any(${narHashes}::bytea[])`)
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

/** Which of these objects NARs are stored in. */
export async function listNarObjects(db: Kysely<Database>, objectKeys: readonly string[]): Promise<string[]> {
  if (objectKeys.length === 0) return [];
  const rows = await db
    .selectFrom("nar")
    .select("object_key")
    .where(sql<SqlBool>`object_key = any(${objectKeys}::text[])`)
    .execute();
  return rows.map((row) => row.object_key);
}
