import { type Kysely, sql } from "kysely";
import type { Realm } from "./realms.ts";
import type { Database } from "./schema.ts";

export interface RoleRow {
  readonly id: string;
  readonly name: string;
  /** The bits of the realm's permissions. */
  readonly permissions: number;
  readonly managed: boolean;
  /** Every realm of the kind has it, and nobody changes it. */
  readonly builtin: boolean;
}

/** The built-in ones first, then by name. */
export async function listRoles(db: Kysely<Database>, { tables, id }: Realm): Promise<RoleRow[]> {
  const { rows } = await sql<RoleRow>`
    select id, name, permissions, managed, ${tables.realmId} is null as builtin from ${tables.roles}
    where ${tables.realmId} = ${id} or ${tables.realmId} is null
    order by builtin desc, case when ${tables.realmId} is null then id end, name`.execute(db);
  return rows;
}

/** A role of the realm, or a built-in one. Names of built-in roles cannot be taken, so one matches at most. */
export async function findRoleOf(
  db: Kysely<Database>,
  { tables, id }: Realm,
  by: { readonly id: string } | { readonly name: string },
): Promise<RoleRow | undefined> {
  const { rows } = await sql<RoleRow>`
    select id, name, permissions, managed, ${tables.realmId} is null as builtin from ${tables.roles}
    where ${"id" in by ? sql`id = ${by.id}` : sql`name = ${by.name}`}
      and (${tables.realmId} = ${id} or ${tables.realmId} is null)
    order by builtin limit 1`.execute(db);
  return rows[0];
}

/** Fails on `role_name_key` or `cache_role_name_key`. */
export async function insertRole(
  db: Kysely<Database>,
  { tables, id }: Realm,
  role: Pick<RoleRow, "id" | "name" | "permissions">,
): Promise<void> {
  await sql`
    insert into ${tables.roles} (id, ${tables.realmId}, name, permissions)
    values (${role.id}, ${id}, ${role.name}, ${role.permissions})`.execute(db);
}

/** Fails on `role_name_key` or `cache_role_name_key`. */
export async function updateRole(
  db: Kysely<Database>,
  { tables, id }: Realm,
  role: Pick<RoleRow, "id" | "name" | "permissions">,
): Promise<void> {
  await sql`
    update ${tables.roles} set name = ${role.name}, permissions = ${role.permissions}
    where id = ${role.id} and ${tables.realmId} = ${id}`.execute(db);
}

/** Fails on a foreign key when a member has the role. */
export async function deleteRole(db: Kysely<Database>, { tables, id }: Realm, roleId: string): Promise<void> {
  await sql`delete from ${tables.roles} where id = ${roleId} and ${tables.realmId} = ${id}`.execute(db);
}
