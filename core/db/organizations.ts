import { type Insertable, type Kysely, sql, type Transaction, type Updateable } from "kysely";
import { ACTIVE_EVALUATION } from "../domain/states.ts";
import type { Database, OrganizationRow, OrganizationTable } from "./schema.ts";

/** An organization as its readers may have it: without its secrets. */
export type OrganizationView = Omit<OrganizationRow, "ssh_secret_key" | "webhook_secret" | "deleted_at">;

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

export type OrganizationChanges = Pick<
  Updateable<OrganizationTable>,
  | "name"
  | "display_name"
  | "description"
  | "public"
  | "hide_build_requests"
  | "ssh_public_key"
  | "ssh_secret_key"
  | "webhook_secret"
>;

export interface OrganizationOfMember extends OrganizationView {
  readonly running_evaluations: number;
  readonly role_name: string;
}

/** Which of a user's organizations: only one of them where `organizationId` is given. */
export interface MembershipScope {
  readonly userId: string;
  readonly organizationId: string | null;
}

interface Window {
  readonly limit: number;
  readonly offset: number;
}

export async function listOrganizationsOfMember(
  db: Kysely<Database>,
  scope: MembershipScope,
  { limit, offset }: Window,
): Promise<OrganizationOfMember[]> {
  return await memberships(db, scope)
    .innerJoin("role", "role.id", "organization_member.role_id")
    .select(ORGANIZATION_COLUMNS)
    .select((eb) => [
      "role.name as role_name",
      eb
        .selectFrom("evaluation")
        .select(sql<number>`count(*)::int`.as("count"))
        .whereRef("evaluation.organization_id", "=", "organization.id")
        .where("evaluation.status", "in", ACTIVE_EVALUATION)
        .$asScalar()
        .$notNull()
        .as("running_evaluations"),
    ])
    .orderBy("organization.name")
    .limit(limit)
    .offset(offset)
    .execute();
}

export async function countOrganizationsOfMember(db: Kysely<Database>, scope: MembershipScope): Promise<number> {
  const { total } = await memberships(db, scope)
    .select(sql<number>`count(*)::int`.as("total"))
    .executeTakeFirstOrThrow();
  return total;
}

export async function listPublicOrganizations(
  db: Kysely<Database>,
  { limit, offset }: Window,
): Promise<OrganizationView[]> {
  return await db
    .selectFrom("organization")
    .select(ORGANIZATION_COLUMNS)
    .where("public", "=", sql.lit(true))
    .orderBy("name")
    .limit(limit)
    .offset(offset)
    .execute();
}

export async function countPublicOrganizations(db: Kysely<Database>): Promise<number> {
  const { total } = await db
    .selectFrom("organization")
    .select(sql<number>`count(*)::int`.as("total"))
    .where("public", "=", sql.lit(true))
    .executeTakeFirstOrThrow();
  return total;
}

export async function organizationExists(db: Kysely<Database>, name: string): Promise<boolean> {
  return !!(await db.selectFrom("organization").select("id").where("name", "=", name).executeTakeFirst());
}

/** Fails on `organization_name_key`. */
export async function insertOrganization(
  trx: Transaction<Database>,
  organization: Insertable<OrganizationTable>,
): Promise<void> {
  await trx.insertInto("organization").values(organization).execute();
}

/** Fails on `organization_name_key`. */
export async function updateOrganization(
  db: Kysely<Database>,
  id: string,
  changes: OrganizationChanges,
): Promise<void> {
  if (Object.keys(changes).length === 0) return;
  await db.updateTable("organization").set(changes).where("id", "=", id).execute();
}

export async function hasWebhookSecret(db: Kysely<Database>, id: string): Promise<boolean> {
  const row = await db
    .selectFrom("organization")
    .select("id")
    .where("id", "=", id)
    .where("webhook_secret", "is not", null)
    .executeTakeFirst();
  return row !== undefined;
}

function memberships(db: Kysely<Database>, { userId, organizationId }: MembershipScope) {
  return db
    .selectFrom("organization_member")
    .innerJoin("organization", "organization.id", "organization_member.organization_id")
    .where("organization_member.user_id", "=", userId)
    .$if(organizationId !== null, (query) => query.where("organization.id", "=", organizationId as string));
}
