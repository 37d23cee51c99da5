import { type Kysely, sql } from "kysely";
import type { Realm } from "./realms.ts";
import type { Database } from "./schema.ts";

export interface MemberRow {
  readonly username: string;
  readonly role_name: string;
}

export interface RoleOfMember {
  readonly role_id: string;
  readonly role_name: string;
  readonly permissions: number;
}

/** Listed without pages. */
const MEMBERS_MAX = 10_000;

export async function listMembersOf(db: Kysely<Database>, { tables, id }: Realm): Promise<MemberRow[]> {
  const { rows } = await sql<MemberRow>`
    select u.username, r.name as role_name
    from ${tables.members} m join user_account u on u.id = m.user_id join ${tables.roles} r on r.id = m.role_id
    where m.${tables.realmId} = ${id} order by u.username limit ${MEMBERS_MAX}`.execute(db);
  return rows;
}

export async function findMemberOf(
  db: Kysely<Database>,
  { tables, id }: Realm,
  userId: string,
): Promise<RoleOfMember | undefined> {
  const { rows } = await sql<RoleOfMember>`
    select m.role_id, r.name as role_name, r.permissions
    from ${tables.members} m join ${tables.roles} r on r.id = m.role_id
    where m.${tables.realmId} = ${id} and m.user_id = ${userId}`.execute(db);
  return rows[0];
}

/** Whether anyone but this user, who can sign in, has the role. */
export async function hasOtherWithRole(
  db: Kysely<Database>,
  { tables, id }: Realm,
  { userId, roleId }: { readonly userId: string; readonly roleId: string },
): Promise<boolean> {
  const { rows } = await sql`
    select from ${tables.members} m join user_account u on u.id = m.user_id
    where m.${tables.realmId} = ${id} and m.role_id = ${roleId} and m.user_id <> ${userId} and u.active
    limit 1`.execute(db);
  return rows.length > 0;
}

/** False when the user is a member already. */
export async function insertMemberOf(
  db: Kysely<Database>,
  { tables, id }: Realm,
  { userId, roleId }: { readonly userId: string; readonly roleId: string },
): Promise<boolean> {
  const { rows } = await sql`
    insert into ${tables.members} (${tables.realmId}, user_id, role_id) values (${id}, ${userId}, ${roleId})
    on conflict do nothing returning user_id`.execute(db);
  return rows.length > 0;
}

export async function updateMemberOf(
  db: Kysely<Database>,
  { tables, id }: Realm,
  { userId, roleId }: { readonly userId: string; readonly roleId: string },
): Promise<void> {
  await sql`
    update ${tables.members} set role_id = ${roleId}
    where ${tables.realmId} = ${id} and user_id = ${userId}`.execute(db);
}

export async function deleteMemberOf(db: Kysely<Database>, { tables, id }: Realm, userId: string): Promise<void> {
  await sql`delete from ${tables.members} where ${tables.realmId} = ${id} and user_id = ${userId}`.execute(db);
}

/** Of every organization that the user belongs to. */
export async function listOrganizationIdsOf(db: Kysely<Database>, userId: string): Promise<string[]> {
  const rows = await db
    .selectFrom("organization_member")
    .select("organization_id")
    .where("user_id", "=", userId)
    .execute();
  return rows.map(({ organization_id }) => organization_id);
}
