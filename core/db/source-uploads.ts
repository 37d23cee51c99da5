import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface SourceUpload {
  readonly id: string;
  readonly userId: string;
  readonly received: number;
}

/**
 * Locks the upload, which begins where there is none of this id; null when its owner has as many as may be. Uploads of
 * one owner begin one after the other.
 */
export async function lockSourceUpload(
  trx: Transaction<Database>,
  { id, userId, uploadsMax }: { readonly id: string; readonly userId: string; readonly uploadsMax: number },
): Promise<SourceUpload | null> {
  const locked = find(trx).where("id", "=", id).forUpdate();
  const known = await locked.executeTakeFirst();
  if (known) return known;
  await sql`select from user_account where id = ${userId} for no key update`.execute(trx);
  if ((await countSourceUploads(trx, userId)) >= uploadsMax) return (await locked.executeTakeFirst()) ?? null;
  await sql`insert into source_upload (id, user_id) values (${id}, ${userId}) on conflict (id) do nothing`.execute(trx);
  return (await locked.executeTakeFirstOrThrow()) satisfies SourceUpload;
}

export async function findSourceUpload(db: Kysely<Database>, id: string): Promise<SourceUpload | undefined> {
  return await find(db).where("id", "=", id).executeTakeFirst();
}

function find(db: Kysely<Database>) {
  return db.selectFrom("source_upload").select(["id", "user_id as userId", "received"]);
}

export async function countSourceUploads(db: Kysely<Database>, userId: string): Promise<number> {
  const { count } = await db
    .selectFrom("source_upload")
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .where("user_id", "=", userId)
    .executeTakeFirstOrThrow();
  return Number(count);
}

/** Takes a transaction: the upload is locked. */
export async function addSourcePart(
  trx: Transaction<Database>,
  {
    uploadId,
    start,
    length,
    objectKey,
  }: {
    readonly uploadId: string;
    readonly start: number;
    readonly length: number;
    readonly objectKey: string;
  },
): Promise<void> {
  await trx
    .insertInto("source_upload_part")
    .values({ upload_id: uploadId, byte_start: start, byte_length: length, object_key: objectKey })
    .execute();
  await trx
    .updateTable("source_upload")
    .set({ received: start + length, last_used_at: sql<Date>`gradient_now()` })
    .where("id", "=", uploadId)
    .execute();
}

/** The parts' objects in order. */
export async function listSourceParts(db: Kysely<Database>, uploadId: string): Promise<string[]> {
  const rows = await db
    .selectFrom("source_upload_part")
    .select("object_key")
    .where("upload_id", "=", uploadId)
    .orderBy("byte_start")
    .execute();
  return rows.map((row) => row.object_key);
}

/** Answers the objects that are nobody's now; none when somebody else has deleted it. */
export async function deleteSourceUpload(db: Kysely<Database>, uploadId: string): Promise<string[]> {
  const { rows } = await sql<{ object_key: string }>`
    with gone as (delete from source_upload where id = ${uploadId} returning id)
    select p.object_key from gone join source_upload_part p on p.upload_id = gone.id`.execute(db);
  return rows.map((row) => row.object_key);
}

/** Uploads that nobody went on with for so long. */
export async function listStaleUploads(
  db: Kysely<Database>,
  { unusedMs, limit }: { readonly unusedMs: number; readonly limit: number },
): Promise<string[]> {
  const rows = await db
    .selectFrom("source_upload")
    .select("id")
    .where("last_used_at", "<", sql<Date>`gradient_now() - ${unusedMs}::float8 * interval '1 millisecond'`)
    .orderBy("last_used_at")
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}
