import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";

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
