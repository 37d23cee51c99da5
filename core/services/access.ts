import type { Kysely, Selectable } from "kysely";
import { REQUEST_PROJECT } from "../db/build-requests-project.ts";
import { type CacheView, findCacheWithRole, listSubscriptionsOfMember } from "../db/caches.ts";
import { findOrganizationWithRole, type OrganizationView } from "../db/organizations.ts";
import type { Database, ProjectTable } from "../db/schema.ts";
import { type Access, cacheAccess, organizationAccess } from "../domain/access.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { isSlug } from "../domain/names.ts";
import {
  allowsCache,
  allowsOrganization,
  type CachePermission,
  type OrganizationPermission,
} from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";

/** `read`: public, or a member with the right to view. `member`: the latter only. Otherwise one permission. */
export type OrganizationNeed = "read" | "member" | OrganizationPermission;
export type CacheNeed = "read" | "member" | CachePermission;

export interface NeedOptions {
  /** Refuse when the thing is declared in the server's state file, which owns its settings. */
  readonly unmanaged?: boolean;
}

export interface OrganizationAccess extends Access {
  readonly organization: OrganizationView;
  /** Null where the actor is no member. */
  readonly roleName: string | null;
}

export interface CacheAccess extends Access {
  readonly cache: CacheView;
  readonly roleName: string | null;
}

export interface ProjectAccess extends OrganizationAccess {
  readonly project: Selectable<ProjectTable>;
}

type AccessDeps = { readonly db: Kysely<Database> };

/**
 * The organization, when the actor may do this with it. What may not be seen is reported like what does not exist
 * (`not_found`); a member without the permission gets `forbidden`; who is not signed in gets `unauthorized` wherever
 * more than reading is asked, whether or not the organization exists.
 */
export async function requireOrganization(
  { db }: AccessDeps,
  actor: Actor,
  name: string,
  need: OrganizationNeed,
  { unmanaged = false }: NeedOptions = {},
): Promise<OrganizationAccess> {
  if (need !== "read") requireUser(actor);
  const access = isSlug(name) ? await findOrganizationAccess(db, actor, { name }) : null;
  checkOrganization(access, need, "Organization");
  if (unmanaged) refuseManaged(access.organization, "organization");
  return access;
}

/** As `requireOrganization`, for what is addressed by an id of its own; `what` it is goes into the refusal. */
export async function requireOrganizationOf(
  { db }: AccessDeps,
  actor: Actor,
  organizationId: string | undefined,
  need: OrganizationNeed,
  what: string,
): Promise<OrganizationAccess> {
  if (need !== "read") requireUser(actor);
  const access = organizationId ? await findOrganizationAccess(db, actor, { id: organizationId }) : null;
  checkOrganization(access, need, what);
  return access;
}

/** As `requireOrganization`; the organization that is missing or hidden and the missing project look alike. */
export async function requireProject(
  { db }: AccessDeps,
  actor: Actor,
  { organization, project: name }: { readonly organization: string; readonly project: string },
  need: OrganizationNeed,
  { unmanaged = false }: NeedOptions = {},
): Promise<ProjectAccess> {
  if (need !== "read") requireUser(actor);
  const known = isSlug(organization) && isSlug(name);
  const found = known ? await findOrganizationAccess(db, actor, { name: organization }) : null;
  const project = found?.visible
    ? await db
        .selectFrom("project")
        .selectAll()
        .where("organization_id", "=", found.organization.id)
        .where("name", "=", name)
        .executeTakeFirst()
    : undefined;
  const access = project ? found : null;
  checkOrganization(access, need, "Project");
  if (unmanaged) refuseRequestProject(project);
  if (unmanaged) refuseManaged(project, "project");
  return { ...access, project: project as Selectable<ProjectTable> };
}

/** As `requireOrganization`, for a cache with a name. */
export async function requireCache(
  { db }: AccessDeps,
  actor: Actor,
  name: string,
  need: CacheNeed,
  { unmanaged = false }: NeedOptions = {},
): Promise<CacheAccess> {
  if (need !== "read") requireUser(actor);
  const access = isSlug(name) ? await findCacheAccess({ db }, actor, name) : null;
  if (!access?.visible || (need !== "read" && !access.member)) throw notFound("Cache");
  const permission = need === "read" || need === "member" ? "viewCache" : need;
  if (!allowsCache(access.mask, permission)) throw lacks(permission, "cache");
  if (unmanaged) refuseManaged(access.cache, "cache");
  return access;
}

/** What the actor may do with a cache, for a surface that answers refusals in its own way. Null when there is none. */
export async function findCacheAccess({ db }: AccessDeps, actor: Actor, name: string): Promise<CacheAccess | null> {
  const userId = actor.user?.id ?? null;
  const row = await findCacheWithRole(db, name, userId);
  if (!row) return null;
  const { role_permissions: rolePermissions, role_name: roleName, ...cache } = row;
  const subscriptions = userId ? await listSubscriptionsOfMember(db, cache.id, userId) : [];
  return { ...cacheAccess(actor, { ...cache, rolePermissions, subscriptions }), cache, roleName };
}

async function findOrganizationAccess(
  db: Kysely<Database>,
  actor: Actor,
  by: { readonly name: string } | { readonly id: string },
): Promise<OrganizationAccess | null> {
  const row = await findOrganizationWithRole(db, by, actor.user?.id ?? null);
  if (!row) return null;
  const { role_permissions: rolePermissions, role_name, ...organization } = row;
  const access = organizationAccess(actor, { ...organization, rolePermissions });
  return { ...access, organization, roleName: access.member ? role_name : null };
}

function checkOrganization(
  access: OrganizationAccess | null,
  need: OrganizationNeed,
  what: string,
): asserts access is OrganizationAccess {
  // To who is no member, a public organization can be read; everything else in it is not there.
  if (!access?.visible || (need !== "read" && !access.member)) throw notFound(what);
  if (need === "read" && access.organization.public) return;
  const permission = need === "read" || need === "member" ? "viewOrg" : need;
  if (!allowsOrganization(access.mask, permission)) throw lacks(permission, "organization");
}

function notFound(what: string): DomainError {
  return new DomainError("not_found", `${what} not found`);
}

function lacks(permission: string, where: string): DomainError {
  return new DomainError(
    "forbidden",
    `This needs the permission \`${permission}\` in this ${where}: ask an admin for it, or use a key that holds it`,
  );
}

function refuseRequestProject(project: Selectable<ProjectTable> | undefined): void {
  if (!project?.managed || project.name !== REQUEST_PROJECT) return;
  throw new DomainError("forbidden", "The project of build requests is the server's own: nobody changes it");
}

function refuseManaged(row: { readonly managed: boolean } | undefined, what: string): void {
  if (!row?.managed) return;
  throw new DomainError("forbidden", `This ${what} is declared in the server's configuration: change it there`);
}
