import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import type { Sender } from "./sent-nars.ts";
import { databaseNow } from "./time.ts";

/** How the parts come. */
export const UploadKind = { Server: 0, Storage: 1 } as const;
export type UploadKind = (typeof UploadKind)[keyof typeof UploadKind];

export interface UploadOf extends Sender {
  /** The 32 characters of the store path's hash. */
  readonly hash: string;
  readonly kind: UploadKind;
}

export interface NarUpload {
  readonly id: string;
  readonly received: number;
  readonly fileSize: number | null;
  readonly storageUpload: string | null;
}

const COLUMNS = ["id", "received", "file_size as fileSize", "storage_upload as storageUpload"] as const;

export async function findNarUpload(db: Kysely<Database>, of: UploadOf): Promise<NarUpload | undefined> {
  return await select(db, of).executeTakeFirst();
}

/** Begins the upload where there is none, and locks it. */
export async function lockNarUpload(trx: Transaction<Database>, of: UploadOf, id: string): Promise<NarUpload> {
  await insertNarUpload(trx, of, { id, fileSize: null, storageUpload: null });
  return await select(trx, of).forUpdate().executeTakeFirstOrThrow();
}

/** False when there is one already. */
export async function insertNarUpload(
  db: Kysely<Database>,
  { cacheId, userId, hash, kind }: UploadOf,
  upload: Omit<NarUpload, "received">,
): Promise<boolean> {
  const { id, fileSize, storageUpload } = upload;
  const result = await db
    .insertInto("nar_upload")
    .values({ id, cache_id: cacheId, user_id: userId, hash, kind, file_size: fileSize, storage_upload: storageUpload })
    .onConflict((conflict) => conflict.columns(["cache_id", "user_id", "hash", "kind"]).doNothing())
    .executeTakeFirst();
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
}

export async function touchNarUpload(db: Kysely<Database>, id: string): Promise<void> {
  await db.updateTable("nar_upload").set({ last_used_at: databaseNow }).where("id", "=", id).execute();
}

export async function countNarUploads(db: Kysely<Database>, userId: string): Promise<number> {
  const { count } = await db
    .selectFrom("nar_upload")
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .where("user_id", "=", userId)
    .executeTakeFirstOrThrow();
  return Number(count);
}

/** Takes a transaction: the upload is locked. */
export async function addNarUploadPart(
  trx: Transaction<Database>,
  part: {
    readonly uploadId: string;
    readonly start: number;
    readonly length: number;
    readonly objectKey: string;
  },
): Promise<void> {
  const { uploadId, start, length, objectKey } = part;
  await trx
    .insertInto("nar_upload_part")
    .values({ upload_id: uploadId, byte_start: start, byte_length: length, object_key: objectKey })
    .execute();
  await trx
    .updateTable("nar_upload")
    .set({ received: start + length, last_used_at: databaseNow })
    .where("id", "=", uploadId)
    .execute();
}

/** The parts' objects in order. */
export async function listNarUploadParts(db: Kysely<Database>, uploadId: string): Promise<string[]> {
  const rows = await db
    .selectFrom("nar_upload_part")
    .select("object_key")
    .where("upload_id", "=", uploadId)
    .orderBy("byte_start")
    .execute();
  return rows.map((row) => row.object_key);
}

/** Answers the objects that are nobody's now. */
export async function deleteNarUpload(db: Kysely<Database>, uploadId: string): Promise<string[]> {
  const { rows } = await sql<{ object_key: string }>`
    with gone as (delete from nar_upload where id = ${uploadId})
    select object_key from nar_upload_part where upload_id = ${uploadId}`.execute(db);
  return rows.map((row) => row.object_key);
}

/** Uploads that nobody went on with for so long. */
export async function listStaleNarUploads(
  db: Kysely<Database>,
  { unusedMs, limit }: { readonly unusedMs: number; readonly limit: number },
): Promise<NarUpload[]> {
  return await db
    .selectFrom("nar_upload")
    .select(COLUMNS)
    .where("last_used_at", "<", sql<Date>`gradient_now() - ${unusedMs}::float8 * interval '1 millisecond'`)
    .orderBy("last_used_at")
    .limit(limit)
    .execute();
}

function select(db: Kysely<Database>, { cacheId, userId, hash, kind }: UploadOf) {
  return db
    .selectFrom("nar_upload")
    .select(COLUMNS)
    .where("cache_id", "=", cacheId)
    .where("user_id", "=", userId)
    .where("hash", "=", hash)
    .where("kind", "=", kind);
}
