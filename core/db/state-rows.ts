import { type Insertable, type Kysely, sql, type Transaction, type Updateable } from "kysely";
import { REQUEST_PROJECT } from "./build-requests-project.ts";
import type { Database } from "./schema.ts";
import { databaseNow } from "./time.ts";

/** Tables whose rows a state file declares, each with an id and the mark that it does. */
type ManagedTable =
  | "user_account"
  | "organization"
  | "role"
  | "project"
  | "cache"
  | "cache_role"
  | "api_key"
  | "integration"
  | "worker_registration";

/** Servers that start together apply their state files one after the other. */
export async function lockState(trx: Transaction<Database>): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended('apply state', 0))`.execute(trx);
}

export async function insertManaged<Table extends ManagedTable>(
  trx: Transaction<Database>,
  table: Table,
  row: Insertable<Database[Table]>,
): Promise<void> {
  await trx
    .insertInto(table)
    .values({ ...row, managed: true } as never)
    .execute();
}

export async function updateManaged<Table extends ManagedTable>(
  trx: Transaction<Database>,
  table: Table,
  id: string,
  changes: Updateable<Database[Table]>,
): Promise<void> {
  await trx
    .updateTable(table as "project")
    .set(changes as never)
    .where("id", "=", id)
    .execute();
}

export async function releaseManaged(
  trx: Transaction<Database>,
  table: ManagedTable,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  await trx
    .updateTable(table as "project")
    .set({ managed: false })
    .where("id", "=", sql<string>`any(${ids}::uuid[])`)
    .execute();
}

export async function deleteManaged(
  trx: Transaction<Database>,
  table: ManagedTable,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  await trx
    .deleteFrom(table as "project")
    .where("id", "=", sql<string>`any(${ids}::uuid[])`)
    .execute();
}

/** With a name or an address among these (in lower case), or declared before. */
export async function lockStateUsers(
  trx: Transaction<Database>,
  { usernames, emails }: { readonly usernames: readonly string[]; readonly emails: readonly string[] },
) {
  return await trx
    .selectFrom("user_account")
    .select(["id", "username", "name", "email", "password_hash", "email_verified", "superuser", "managed"])
    .where((eb) =>
      eb.or([
        sql<boolean>`lower(username) = any(${usernames}::text[])`,
        sql<boolean>`lower(email) = any(${emails}::text[])`,
        eb("managed", "=", true),
      ]),
    )
    .orderBy("id")
    .forNoKeyUpdate()
    .execute();
}

/** Nobody stays signed in by what a password of before has let in. */
export async function revokeSessionsOf(trx: Transaction<Database>, userId: string): Promise<void> {
  await trx
    .updateTable("session")
    .set({ revoked_at: databaseNow })
    .where("user_id", "=", userId)
    .where("revoked_at", "is", null)
    .execute();
}

export async function lockStateOrganizations(
  trx: Transaction<Database>,
  { names, ids }: { readonly names: readonly string[]; readonly ids: readonly string[] },
) {
  return await trx
    .selectFrom("organization")
    .select(["id", "name", "display_name", "description", "public", "hide_build_requests", "ssh_public_key"])
    .select(["created_by", "managed", "deleted_at"])
    .where((eb) =>
      eb.or([
        sql<boolean>`name = any(${names}::text[])`,
        sql<boolean>`id = any(${ids}::uuid[])`,
        eb("managed", "=", true),
      ]),
    )
    .orderBy("id")
    .forNoKeyUpdate()
    .execute();
}

/** All roles of these organizations, and those that were declared before. */
export async function listStateRoles(trx: Transaction<Database>, organizationIds: readonly string[]) {
  return await trx
    .selectFrom("role")
    .innerJoin("organization", "organization.id", "role.organization_id")
    .select(["role.id", "role.organization_id", "organization.name as organization_name", "role.name"])
    .select(["role.permissions", "role.managed", "role.oidc_groups", "role.scim_groups"])
    .where((eb) =>
      eb.or([sql<boolean>`role.organization_id = any(${organizationIds}::uuid[])`, eb("role.managed", "=", true)]),
    )
    .orderBy("role.id")
    .execute();
}

/** Who has this role is no member any more. */
export async function deleteMembersWithRole(trx: Transaction<Database>, roleId: string): Promise<void> {
  await trx.deleteFrom("organization_member").where("role_id", "=", roleId).execute();
}

/** All of these organizations, and those that were declared before. */
export async function listStateIntegrations(trx: Transaction<Database>, organizationIds: readonly string[]) {
  return await trx
    .selectFrom("integration")
    .innerJoin("organization", "organization.id", "integration.organization_id")
    .selectAll("integration")
    .select("organization.name as organization_name")
    .where((eb) =>
      eb.or([
        sql<boolean>`integration.organization_id = any(${organizationIds}::uuid[])`,
        eb("integration.managed", "=", true),
      ]),
    )
    .orderBy("integration.id")
    .execute();
}

/** All of these organizations, and those that were declared before; never the projects of build requests. */
export async function lockStateProjects(trx: Transaction<Database>, organizationIds: readonly string[]) {
  return await trx
    .selectFrom("project")
    .innerJoin("organization", "organization.id", "project.organization_id")
    .selectAll("project")
    .select("organization.name as organization_name")
    .where("project.name", "!=", REQUEST_PROJECT)
    .where((eb) =>
      eb.or([
        sql<boolean>`project.organization_id = any(${organizationIds}::uuid[])`,
        eb("project.managed", "=", true),
      ]),
    )
    .orderBy("project.id")
    .forNoKeyUpdate("project")
    .execute();
}

/** Named ones with one of these names, and those that were declared before. */
export async function lockStateCaches(trx: Transaction<Database>, names: readonly string[]) {
  return await trx
    .selectFrom("cache")
    .selectAll()
    .where("kind", "=", 0)
    .where((eb) => eb.or([sql<boolean>`name = any(${names}::text[])`, eb("managed", "=", true)]))
    .orderBy("id")
    .forNoKeyUpdate()
    .execute();
}

export async function listStateCacheRoles(trx: Transaction<Database>, cacheId: string) {
  return await trx
    .selectFrom("cache_role")
    .select(["id", "name", "permissions", "managed"])
    .where((eb) => eb.or([eb("cache_id", "=", cacheId), eb("cache_id", "is", null)]))
    .orderBy("id")
    .execute();
}

export async function deleteCacheMembersWithRole(trx: Transaction<Database>, roleId: string): Promise<void> {
  await trx.deleteFrom("cache_member").where("role_id", "=", roleId).execute();
}

/** Of these owners, and those that were declared before, and those with one of these hashes. */
export async function lockStateApiKeys(
  trx: Transaction<Database>,
  { ownerIds, hashes }: { readonly ownerIds: readonly string[]; readonly hashes: readonly string[] },
) {
  return await trx
    .selectFrom("api_key")
    .innerJoin("user_account", "user_account.id", "api_key.owner_id")
    .selectAll("api_key")
    .select("user_account.username")
    .select(sql<string>`encode(api_key.token_hash, 'hex')`.as("hash_text"))
    .where((eb) =>
      eb.or([
        sql<boolean>`api_key.owner_id = any(${ownerIds}::uuid[])`,
        sql<boolean>`encode(api_key.token_hash, 'hex') = any(${hashes}::text[])`,
        eb("api_key.managed", "=", true),
      ]),
    )
    .orderBy("api_key.id")
    .forNoKeyUpdate("api_key")
    .execute();
}

export async function setFlakeInputs(
  db: Kysely<Database>,
  projectId: string,
  inputs: readonly { readonly id: string; readonly input_name: string; readonly url: string | null }[],
): Promise<void> {
  await db.deleteFrom("project_flake_input").where("project_id", "=", projectId).execute();
  for (const input of inputs) {
    await db
      .insertInto("project_flake_input")
      .values({ ...input, project_id: projectId })
      .execute();
  }
}
