import { type Kysely, sql } from "kysely";
import type { ProvenWorker } from "./attempts.ts";
import type { Database } from "./schema.ts";

/** Keeps what the worker announced with its registrations in the organizations that it has proved. */
export async function recordSigningKey(
  db: Kysely<Database>,
  { workerId, organizationIds }: ProvenWorker,
  key: string,
): Promise<void> {
  await db
    .updateTable("worker_registration")
    .set({ signing_key: key })
    .where("worker_id", "=", workerId)
    .where("organization_id", "=", sql<string>`any(${organizationIds}::uuid[])`)
    .where("signing_key", "is distinct from", key)
    .execute();
}

/** Whether a cache of this instance signs under the name, or did. */
export async function isCacheKeyName(db: Kysely<Database>, name: string): Promise<boolean> {
  const row = await db.selectFrom("cache_key").select("id").where("name", "=", name).limit(1).executeTakeFirst();
  return row !== undefined;
}
