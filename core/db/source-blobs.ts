import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface NewSourceBlob {
  readonly organizationId: string;
  readonly hash: Uint8Array;
  readonly size: number;
  readonly objectKey: string;
}

/** Answers the key of the object that holds the content: another one where somebody was faster. */
export async function insertSourceBlob(db: Kysely<Database>, blob: NewSourceBlob): Promise<string> {
  const { rows } = await sql<{ object_key: string }>`
    insert into source_blob (organization_id, hash, size, object_key)
    values (${blob.organizationId}, ${blob.hash}, ${blob.size}, ${blob.objectKey})
    on conflict (organization_id, hash) do update set last_used_at = gradient_now()
    returning object_key`.execute(db);
  return (rows[0] as { object_key: string }).object_key;
}

/** Whether the organization has the content; it is kept for a while from now on. */
export async function useSourceBlob(db: Kysely<Database>, organizationId: string, hash: Uint8Array): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("source_blob")
    .set({ last_used_at: sql<Date>`gradient_now()` })
    .where("organization_id", "=", organizationId)
    .where("hash", "=", hash)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Takes the object out of use, unless the row has another one by now. */
export async function deleteSourceBlob(db: Kysely<Database>, objectKey: string): Promise<void> {
  await db.deleteFrom("source_blob").where("object_key", "=", objectKey).execute();
}

/** Deletes rows that nobody used for so long; answers their objects' keys. */
export async function deleteUnusedBlobs(
  db: Kysely<Database>,
  { unusedMs, limit }: { readonly unusedMs: number; readonly limit: number },
): Promise<string[]> {
  const unused = sql<Date>`gradient_now() - ${unusedMs}::float8 * interval '1 millisecond'`;
  const { rows } = await sql<{ object_key: string }>`
    with victim as (
      select organization_id, hash from source_blob where last_used_at < ${unused}
      order by organization_id, hash limit ${limit} for update skip locked
    )
    delete from source_blob b using victim v where b.organization_id = v.organization_id and b.hash = v.hash
    returning b.object_key`.execute(db);
  return rows.map((row) => row.object_key);
}
