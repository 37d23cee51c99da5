import type { Kysely } from "kysely";
import type { Database, OrganizationRow } from "./schema.ts";

/** An organization as its readers may have it: without its secret key. */
export type OrganizationView = Omit<OrganizationRow, "ssh_secret_key">;

/** With the permissions and the name of one user's role in it; null where the user is no member. */
export interface OrganizationWithRole extends OrganizationView {
  readonly role_permissions: number | null;
  readonly role_name: string | null;
}

export const ORGANIZATION_COLUMNS = [
  "organization.id",
  "organization.name",
  "organization.display_name",
  "organization.description",
  "organization.public",
  "organization.hide_build_requests",
  "organization.ssh_public_key",
  "organization.managed",
  "organization.created_by",
  "organization.created_at",
] as const;

/** One statement for every access decision. A null user has no role. */
export async function findOrganizationWithRole(
  db: Kysely<Database>,
  by: { readonly name: string } | { readonly id: string },
  userId: string | null,
): Promise<OrganizationWithRole | undefined> {
  return await db
    .selectFrom("organization")
    .leftJoin("organization_member", (join) =>
      join.onRef("organization_member.organization_id", "=", "organization.id").on("user_id", "=", userId),
    )
    .leftJoin("role", "role.id", "organization_member.role_id")
    .select(ORGANIZATION_COLUMNS)
    .select(["role.permissions as role_permissions", "role.name as role_name"])
    .$if("name" in by, (query) => query.where("organization.name", "=", (by as { name: string }).name))
    .$if("id" in by, (query) => query.where("organization.id", "=", (by as { id: string }).id))
    .executeTakeFirst();
}
