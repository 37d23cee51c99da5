import { type Kysely, sql, type Transaction } from "kysely";
import { REQUEST_PROJECT } from "./build-requests-project.ts";
import type { Database } from "./schema.ts";

/** Everything is read as it was at one moment. */
export async function readSnapshot<T>(
  db: Kysely<Database>,
  read: (trx: Transaction<Database>) => Promise<T>,
): Promise<T> {
  return await db.transaction().setIsolationLevel("repeatable read").setAccessMode("read only").execute(read);
}

export async function listExportedUsers(db: Kysely<Database>) {
  return await db
    .selectFrom("user_account")
    .select(["id", "username", "name", "email", "email_verified", "superuser"])
    .select(sql<boolean>`password_hash is not null`.as("has_password"))
    .orderBy("username")
    .execute();
}

export async function listExportedOrganizations(db: Kysely<Database>) {
  return await db
    .selectFrom("organization")
    .select(["id", "name", "display_name", "description", "public", "hide_build_requests", "created_by"])
    .where("deleted_at", "is", null)
    .orderBy("name")
    .execute();
}

export async function listExportedRoles(db: Kysely<Database>) {
  return await db
    .selectFrom("role")
    .innerJoin("organization", "organization.id", "role.organization_id")
    .select(["role.id", "role.name", "role.permissions", "role.oidc_groups", "role.scim_groups"])
    .select("organization.name as organization")
    .orderBy("organization.name")
    .orderBy("role.name")
    .execute();
}

export interface ExportedMember {
  readonly realm_id: string;
  readonly username: string;
  readonly role: string;
}

/** Whom people or the state file made members, also of those who wait for an account; not whom only a group did. */
export async function listExportedMembers(db: Kysely<Database>): Promise<ExportedMember[]> {
  const { rows } = await sql<ExportedMember>`
    select m.organization_id as realm_id, u.username, coalesce(own.name, r.name) as role
    from organization_member m join user_account u on u.id = m.user_id join role r on r.id = m.role_id
    left join group_membership g on g.organization_id = m.organization_id and g.user_id = m.user_id
      and g.role_id = m.role_id
    left join role own on own.id = g.own_role_id
    where g.user_id is null or own.id is not null
    union all
    select p.organization_id, p.username, r.name from pending_member p join role r on r.id = p.role_id
    union all
    select m.cache_id, u.username, r.name
    from cache_member m join user_account u on u.id = m.user_id join cache_role r on r.id = m.role_id
    union all
    select p.cache_id, p.username, r.name from pending_member p join cache_role r on r.id = p.cache_role_id
    order by 1, 2`.execute(db);
  return rows;
}

export async function listExportedIntegrations(db: Kysely<Database>) {
  return await db
    .selectFrom("integration")
    .innerJoin("organization", "organization.id", "integration.organization_id")
    .select(["integration.id", "integration.name", "integration.display_name", "kind", "forge_type", "endpoint_url"])
    .select(["installation_id", "account_login", "integration.created_by", "organization.name as organization"])
    .select([sql<boolean>`secret is not null`.as("has_secret"), sql<boolean>`access_token is not null`.as("has_token")])
    .orderBy("organization.name")
    .orderBy("integration.name")
    .orderBy("kind")
    .execute();
}

export async function listExportedProjects(db: Kysely<Database>) {
  return await db
    .selectFrom("project")
    .innerJoin("organization", "organization.id", "project.organization_id")
    .selectAll("project")
    .select("organization.name as organization")
    .where("project.name", "!=", REQUEST_PROJECT)
    .where("organization.deleted_at", "is", null)
    .orderBy("organization.name")
    .orderBy("project.name")
    .execute();
}

export async function listExportedTriggers(db: Kysely<Database>) {
  return await db.selectFrom("project_trigger").selectAll().orderBy("created_at").orderBy("id").execute();
}

export async function listExportedActions(db: Kysely<Database>) {
  return await db.selectFrom("project_action").selectAll().orderBy("name").execute();
}

export async function listExportedInputs(db: Kysely<Database>) {
  return await db.selectFrom("project_flake_input").selectAll().orderBy("input_name").execute();
}

export async function listExportedCaches(db: Kysely<Database>) {
  return await db.selectFrom("cache").selectAll().where("kind", "=", 0).orderBy("name").execute();
}

export async function listExportedCacheRoles(db: Kysely<Database>) {
  return await db
    .selectFrom("cache_role")
    .select(["cache_id", "name", "permissions"])
    .where("cache_id", "is not", null)
    .orderBy("name")
    .execute();
}

export async function listExportedSubscriptions(db: Kysely<Database>) {
  return await db
    .selectFrom("organization_cache")
    .innerJoin("organization", "organization.id", "organization_cache.organization_id")
    .select(["cache_id", "mode", "organization.name as organization"])
    .orderBy("organization.name")
    .execute();
}

export async function listExportedUpstreams(db: Kysely<Database>) {
  return await db
    .selectFrom("cache_upstream as u")
    .leftJoin("cache as source", "source.id", "u.upstream_cache_id")
    .select(["u.cache_id", "u.kind", "u.display_name", "u.mode", "u.url", "u.public_keys", "u.remote_cache"])
    .select(["source.name as cache_name", sql<boolean>`u.api_key is not null`.as("has_key")])
    .orderBy("u.id")
    .execute();
}

/** Without those that were revoked. */
export async function listExportedApiKeys(db: Kysely<Database>) {
  return await db
    .selectFrom("api_key")
    .innerJoin("user_account", "user_account.id", "api_key.owner_id")
    .leftJoin("organization", "organization.id", "api_key.organization_id")
    .leftJoin("cache", "cache.id", "api_key.cache_id")
    .select(["api_key.name", "username", "permissions", "allowed_ips", "expires_at"])
    .select(["organization.name as organization", "cache.name as cache"])
    .where("revoked_at", "is", null)
    .orderBy("username")
    .orderBy("api_key.name")
    .execute();
}

export async function listExportedRegistrations(db: Kysely<Database>) {
  return await db
    .selectFrom("worker_registration")
    .innerJoin("organization", "organization.id", "worker_registration.organization_id")
    .select(["worker_id", "worker_registration.display_name", "url", "active", "opted_in", "base_worker_id"])
    .select(["enable_fetch", "enable_eval", "enable_build", "worker_registration.created_by"])
    .select("organization.name as organization")
    .orderBy("worker_registration.display_name")
    .orderBy("worker_id")
    .orderBy("organization.name")
    .execute();
}

export async function listExportedBaseWorkers(db: Kysely<Database>) {
  return await db.selectFrom("base_worker").selectAll().orderBy("display_name").orderBy("worker_id").execute();
}
