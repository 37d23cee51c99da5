import { type Kysely, sql, type Transaction, type Updateable } from "kysely";
import type { Database } from "./schema.ts";
import type { HostRow, HostTable } from "./tables/deployment.ts";

/** What is decided from about each host of a project. */
export type HostState = Pick<HostRow, "id" | "name" | "running_path" | "healthy_since" | "last_contact_at">;

/** By name. */
export async function listHostStates(db: Kysely<Database>, projectId: string): Promise<HostState[]> {
  return await db
    .selectFrom("host")
    .select(["id", "name", "running_path", "healthy_since", "last_contact_at"])
    .where("project_id", "=", projectId)
    .orderBy(sql`name collate "C"`)
    .execute();
}

/** Those of a project with these names. */
export async function listHosts(db: Kysely<Database>, projectId: string, names: readonly string[]): Promise<HostRow[]> {
  if (names.length === 0) return [];
  return await db
    .selectFrom("host")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("name", "in", names)
    .execute();
}

export async function lockHost(
  trx: Transaction<Database>,
  projectId: string,
  name: string,
): Promise<HostRow | undefined> {
  return await trx
    .selectFrom("host")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("name", "=", name)
    .forUpdate()
    .executeTakeFirst();
}

export async function countHosts(db: Kysely<Database>, projectId: string): Promise<number> {
  const { count } = await db
    .selectFrom("host")
    .select(sql<number>`count(*)::int`.as("count"))
    .where("project_id", "=", projectId)
    .executeTakeFirstOrThrow();
  return count;
}

/** Nothing where it is there already. */
export async function insertHost(
  trx: Transaction<Database>,
  host: { readonly id: string; readonly project_id: string; readonly name: string; readonly kept_until: Date },
): Promise<void> {
  await trx
    .insertInto("host")
    .values(host)
    .onConflict((conflict) => conflict.constraint("host_name_key").doNothing())
    .execute();
}

export async function updateHost(
  trx: Transaction<Database>,
  id: string,
  changes: Updateable<HostTable>,
): Promise<void> {
  await trx.updateTable("host").set(changes).where("id", "=", id).execute();
}

export async function deleteHost(trx: Transaction<Database>, id: string): Promise<void> {
  await trx.deleteFrom("host").where("id", "=", id).execute();
}

/** Numbers of `host_path.role`. */
export const HOST_PATH_ROLE = { running: 0, booted: 1, rollback: 2, wanted: 3 } as const;

export interface HostPath {
  readonly host_id: string;
  readonly role: number;
  /** Base name. */
  readonly store_path: string;
}

/** The newest first. */
export async function listHostPaths(db: Kysely<Database>, hostIds: readonly string[]): Promise<HostPath[]> {
  if (hostIds.length === 0) return [];
  return await db
    .selectFrom("host_path")
    .select(["host_id", "role", "store_path"])
    .where("host_id", "in", hostIds)
    .orderBy("since", "desc")
    .orderBy("store_path")
    .execute();
}

/** These and no others; those that were there keep their time. */
export async function setHostPaths(
  trx: Transaction<Database>,
  hostId: string,
  paths: readonly Omit<HostPath, "host_id">[],
): Promise<void> {
  const rows = JSON.stringify(paths);
  await sql`
    delete from host_path h where h.host_id = ${hostId} and not exists (
      select from jsonb_to_recordset(${rows}::jsonb) as n (role smallint, store_path text)
      where n.role = h.role and n.store_path = h.store_path)`.execute(trx);
  await sql`
    insert into host_path (host_id, role, store_path)
    select ${hostId}, n.role, n.store_path from jsonb_to_recordset(${rows}::jsonb) as n (role smallint, store_path text)
    on conflict do nothing`.execute(trx);
}
