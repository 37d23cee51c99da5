import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface SourceUpload {
  readonly id: string;
  readonly userId: string;
  readonly received: number;
}

/** Begins the upload where there is none of this id, and locks it. */
export async function lockSourceUpload(
  trx: Transaction<Database>,
  { id, userId }: { readonly id: string; readonly userId: string },
): Promise<SourceUpload> {
  await sql`insert into source_upload (id, user_id) values (${id}, ${userId}) on conflict (id) do nothing`.execute(trx);
  return (await find(trx).where("id", "=", id).forUpdate().executeTakeFirstOrThrow()) satisfies SourceUpload;
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

/** Answers the objects that are nobody's now. */
export async function deleteSourceUpload(db: Kysely<Database>, uploadId: string): Promise<string[]> {
  const { rows } = await sql<{ object_key: string }>`
    with gone as (delete from source_upload where id = ${uploadId})
    select object_key from source_upload_part where upload_id = ${uploadId}`.execute(db);
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
