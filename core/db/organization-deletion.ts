import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import { databaseNow } from "./time.ts";

/** Whether the organization has more than `max` builds and links to builds: what takes long to delete. */
export async function isLarge(db: Kysely<Database>, id: string, max: number): Promise<boolean> {
  const { rows } = await sql<{ count: number }>`
    select (select count(*) from (select from build where organization_id = ${id} limit ${max + 1}) b)::int
      + (select count(*) from (
        select from evaluation_build l join evaluation e on e.id = l.evaluation_id
        where e.organization_id = ${id} limit ${max + 1}) l)::int as count`.execute(db);
  return (rows[0]?.count ?? 0) > max;
}

/** With everything in it. For what is not large. */
export async function deleteOrganization(db: Kysely<Database>, id: string): Promise<void> {
  await db.deleteFrom("organization").where("id", "=", id).execute();
}

/**
 * From now on nobody belongs to the organization, works for it or has its keys, nothing begins in it, and its name is
 * free.
 */
export async function buryOrganization(trx: Transaction<Database>, id: string): Promise<void> {
  await trx
    .updateTable("organization")
    .set({
      // With a blank, as no organization can be called: nobody holds the name, and nothing is found by it.
      name: `deleted ${id}`,
      public: false,
      managed: false,
      ssh_secret_key: new Uint8Array(),
      webhook_secret: null,
      deleted_at: databaseNow,
    })
    .where("id", "=", id)
    .execute();
  for (const table of [
    "organization_member",
    "pending_member",
    "role",
    "organization_cache",
    "worker_registration",
    "api_key",
    "integration",
  ] as const) {
    await trx.deleteFrom(table).where("organization_id", "=", id).execute();
  }
  const projects = trx.selectFrom("project").select("id").where("organization_id", "=", id);
  await trx.deleteFrom("project_trigger").where("project_id", "in", projects).execute();
  await trx.deleteFrom("project_action").where("project_id", "in", projects).execute();
  await trx.updateTable("project").set({ active: false, managed: false }).where("organization_id", "=", id).execute();
}

export async function listBuriedOrganizations(db: Kysely<Database>, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom("organization")
    .select("id")
    .where("deleted_at", "is not", null)
    .orderBy("deleted_at")
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}

/** Of a buried organization, from the leaves to the root: what refers to something goes before it. */
const LEAVES: readonly ((id: string, limit: number) => RawBuilder<unknown>)[] = [
  (id, limit) => sql`
    delete from evaluation_build where id in (
      select l.id from evaluation_build l join evaluation e on e.id = l.evaluation_id
      where e.organization_id = ${id} limit ${limit})`,
  (id, limit) => sql`
    delete from evaluation where id in (select id from evaluation where organization_id = ${id} limit ${limit})`,
  (id, limit) => sql`
    delete from attempt where id in (select id from attempt where organization_id = ${id} limit ${limit})`,
  (id, limit) => sql`
    delete from build where id in (select id from build where organization_id = ${id} limit ${limit})`,
  (id, limit) => sql`
    delete from cache_path where (cache_id, hash) in (
      select p.cache_id, p.hash from cache_path p join cache c on c.id = p.cache_id
      where c.organization_id = ${id} limit ${limit})`,
];

/** A part of what is left of a buried organization, and in the end itself. False when nothing is left. */
export async function deleteBuriedPart(db: Kysely<Database>, id: string, limit: number): Promise<boolean> {
  for (const leaf of LEAVES) {
    const { numAffectedRows } = await leaf(id, limit).execute(db);
    if ((numAffectedRows ?? 0n) > 0n) return true;
  }
  await deleteOrganization(db, id);
  return false;
}
