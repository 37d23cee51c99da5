import type { Kysely, Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface Member {
  readonly username: string;
  readonly role_name: string;
}

export interface RoleOfMember {
  readonly role_id: string;
  readonly permissions: number;
}

export interface RoleByName {
  readonly id: string;
  readonly permissions: number;
}

export async function listMembers(db: Kysely<Database>, organizationId: string): Promise<Member[]> {
  return await db
    .selectFrom("organization_member")
    .innerJoin("user_account", "user_account.id", "organization_member.user_id")
    .innerJoin("role", "role.id", "organization_member.role_id")
    .select(["user_account.username", "role.name as role_name"])
    .where("organization_member.organization_id", "=", organizationId)
    .orderBy("user_account.username")
    .execute();
}

/** A role of the organization, or a built-in one. Names of built-in roles cannot be taken, so one matches at most. */
export async function findRole(
  db: Kysely<Database>,
  organizationId: string,
  name: string,
): Promise<RoleByName | undefined> {
  return await db
    .selectFrom("role")
    .select(["id", "permissions"])
    .where("name", "=", name)
    .where((eb) => eb.or([eb("organization_id", "=", organizationId), eb("organization_id", "is", null)]))
    .orderBy("organization_id", (order) => order.asc().nullsLast())
    .executeTakeFirst();
}

/** Two changes of one organization's members never overlap: each sees how many admins the other left. */
export async function lockMembers(trx: Transaction<Database>, organizationId: string): Promise<void> {
  await trx.selectFrom("organization").select("id").where("id", "=", organizationId).forUpdate().execute();
}

export async function findMember(
  db: Kysely<Database>,
  organizationId: string,
  userId: string,
): Promise<RoleOfMember | undefined> {
  return await db
    .selectFrom("organization_member")
    .innerJoin("role", "role.id", "organization_member.role_id")
    .select(["organization_member.role_id", "role.permissions"])
    .where("organization_member.organization_id", "=", organizationId)
    .where("organization_member.user_id", "=", userId)
    .executeTakeFirst();
}

/** Whether anyone but this user has the role. */
export async function othersHaveRole(
  trx: Transaction<Database>,
  { organizationId, userId, roleId }: { organizationId: string; userId: string; roleId: string },
): Promise<boolean> {
  const row = await trx
    .selectFrom("organization_member")
    .innerJoin("user_account", "user_account.id", "organization_member.user_id")
    .select("user_id")
    .where("organization_id", "=", organizationId)
    .where("role_id", "=", roleId)
    .where("user_id", "<>", userId)
    .where("user_account.active", "=", true)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** False when the user is a member already. */
export async function insertMember(
  db: Kysely<Database>,
  member: { readonly organization_id: string; readonly user_id: string; readonly role_id: string },
): Promise<boolean> {
  const row = await db
    .insertInto("organization_member")
    .values(member)
    .onConflict((conflict) => conflict.doNothing())
    .returning("user_id")
    .executeTakeFirst();
  return row !== undefined;
}

export async function updateMemberRole(
  db: Kysely<Database>,
  { organizationId, userId, roleId }: { organizationId: string; userId: string; roleId: string },
): Promise<void> {
  await db
    .updateTable("organization_member")
    .set({ role_id: roleId })
    .where("organization_id", "=", organizationId)
    .where("user_id", "=", userId)
    .execute();
}

export async function deleteMember(db: Kysely<Database>, organizationId: string, userId: string): Promise<void> {
  await db
    .deleteFrom("organization_member")
    .where("organization_id", "=", organizationId)
    .where("user_id", "=", userId)
    .execute();
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
