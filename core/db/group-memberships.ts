import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface RoleOfGroup {
  readonly organization_id: string;
  readonly role_id: string;
  readonly name: string;
  readonly permissions: number;
}

export interface MarkedMembership {
  readonly organization_id: string;
  readonly role_id: string;
  readonly permissions: number;
  /** The role that a group gave; null where none did. */
  readonly group_role_id: string | null;
  readonly own_role_id: string | null;
  readonly own_role_name: string | null;
  readonly own_permissions: number | null;
}

interface Place {
  readonly organizationId: string;
  readonly userId: string;
}

/** The roles that members of any of these groups have. */
export async function listRolesOfGroups(db: Kysely<Database>, groups: readonly string[]): Promise<RoleOfGroup[]> {
  if (groups.length === 0) return [];
  return await db
    .selectFrom("role")
    .select(["organization_id", "id as role_id", "name", "permissions"])
    .where("organization_id", "is not", null)
    .where(sql<boolean>`oidc_groups && ${groups}::text[]`)
    .$narrowType<{ organization_id: string }>()
    .execute();
}

export async function listMarkedMemberships(db: Kysely<Database>, userId: string): Promise<MarkedMembership[]> {
  return await db
    .selectFrom("organization_member as member")
    .innerJoin("role", "role.id", "member.role_id")
    .leftJoin("group_membership as mark", (join) =>
      join.onRef("mark.organization_id", "=", "member.organization_id").onRef("mark.user_id", "=", "member.user_id"),
    )
    .leftJoin("role as own", "own.id", "mark.own_role_id")
    .select(["member.organization_id", "member.role_id", "role.permissions"])
    .select(["mark.role_id as group_role_id", "own.id as own_role_id"])
    .select(["own.name as own_role_name", "own.permissions as own_permissions"])
    .where("member.user_id", "=", userId)
    .execute();
}

/** Changes of the members of these organizations come one after the other; always in one order. */
export async function lockOrganizations(trx: Transaction<Database>, ids: readonly string[]): Promise<void> {
  await trx.selectFrom("organization").select("id").where("id", "in", ids).orderBy("id").forNoKeyUpdate().execute();
}

/** The user has the role because of a group, and `ownRoleId` when no group gives anything any more. */
export async function giveGroupRole(
  trx: Transaction<Database>,
  { organizationId: organization_id, userId: user_id }: Place,
  { roleId: role_id, ownRoleId: own_role_id }: { readonly roleId: string; readonly ownRoleId: string | null },
): Promise<void> {
  await trx
    .insertInto("organization_member")
    .values({ organization_id, user_id, role_id })
    .onConflict((conflict) => conflict.columns(["organization_id", "user_id"]).doUpdateSet({ role_id }))
    .execute();
  await trx
    .insertInto("group_membership")
    .values({ organization_id, user_id, role_id, own_role_id })
    .onConflict((conflict) => conflict.columns(["organization_id", "user_id"]).doUpdateSet({ role_id, own_role_id }))
    .execute();
}

/** The user has what people gave, and nothing because of a group. */
export async function giveOwnRole(
  trx: Transaction<Database>,
  { organizationId, userId }: Place,
  roleId: string,
): Promise<void> {
  // The mark goes with the role that it is about.
  await trx
    .updateTable("organization_member")
    .set({ role_id: roleId })
    .where("organization_id", "=", organizationId)
    .where("user_id", "=", userId)
    .execute();
}

/** The membership ends, and its mark with it. */
export async function endMembership(trx: Transaction<Database>, { organizationId, userId }: Place): Promise<void> {
  await trx
    .deleteFrom("organization_member")
    .where("organization_id", "=", organizationId)
    .where("user_id", "=", userId)
    .execute();
}
