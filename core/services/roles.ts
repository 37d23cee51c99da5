import type { Transaction } from "kysely";
import type {
  CacheRoleView,
  ChangeRoleBody,
  CreateRoleBody,
  OrganizationRoleView,
  RoleListView,
} from "../api/roles.ts";
import {
  deleteRole as deleteRoleRow,
  findRoleOf,
  insertRole,
  listRoles as listRoleRows,
  type RoleRow,
  updateRole,
} from "../db/roles.ts";
import type { Database } from "../db/schema.ts";
import { foreignKeyViolation, uniqueViolation } from "../db/violations.ts";
import type { Actor } from "../domain/actor.ts";
import type { AuditEvent } from "../domain/audit-events.ts";
import { requireSlug } from "../domain/names.ts";
import { cachePermissionsIn, organizationPermissionsIn } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import {
  cacheMaskOf,
  listCachePermissions,
  listOrganizationPermissions,
  organizationMaskOf,
} from "./permission-names.ts";
import { changeRealm, type RealmAccess, type RealmName, refuseMoreThan, requireRealm } from "./realms.ts";

export type RoleOfRealm = OrganizationRoleView | CacheRoleView;

/** Of one organization or cache, listed without pages. */
const ROLES_MAX = 100;
const BUILTIN_NAMES: readonly string[] = ["admin", "write", "view"];

/** What differs between the two kinds. */
const KINDS = {
  organization: {
    maskOf: organizationMaskOf,
    permissionsIn: organizationPermissionsIn,
    permissions: listOrganizationPermissions,
    events: {
      create: "organization.role.create",
      update: "organization.role.update",
      delete: "organization.role.delete",
    },
  },
  cache: {
    maskOf: cacheMaskOf,
    permissionsIn: cachePermissionsIn,
    permissions: listCachePermissions,
    events: { create: "cache.role.create", update: "cache.role.update", delete: "cache.role.delete" },
  },
} as const;

/** The built-in roles, and those of the realm alone. */
export async function listRoles(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: RealmName,
): Promise<RoleListView<RoleOfRealm>> {
  const access = await requireRealm(db, actor, name, "look");
  const rows = await listRoleRows(db, access.realm);
  return {
    roles: rows.map((row) => viewRole(access, row)),
    available_permissions: KINDS[access.kind].permissions(),
  };
}

export async function getRole(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: RealmName,
  id: string,
): Promise<RoleOfRealm> {
  const access = await requireRealm(db, actor, name, "look");
  return viewRole(access, await requireRole(db, access, id));
}

/** It holds nothing that its maker does not hold. */
export async function createRole(
  { db, clock, random }: Pick<ServiceDeps, "db" | "clock" | "random">,
  actor: Actor,
  name: RealmName,
  body: CreateRoleBody,
): Promise<RoleOfRealm> {
  return await changeRealm(db, actor, { name, need: "roles" }, async (trx, access) => {
    const permissions = KINDS[access.kind].maskOf(body.permissions);
    refuseMore(access, permissions);
    const role = { id: uuidV7(clock.now(), random), name: requireRoleName(body.name), permissions };
    const existing = (await listRoleRows(trx, access.realm)).filter(({ builtin }) => !builtin);
    if (existing.length >= ROLES_MAX) {
      throw new DomainError(
        "conflict",
        `There are ${ROLES_MAX} roles already, as many as are allowed: delete one first`,
      );
    }
    await insertRole(trx, access.realm, role);
    await record(trx, actor, access, "create", { role: role.name, permissions: namesIn(access, permissions) });
    return viewRole(access, { ...role, builtin: false, managed: false });
  }).catch(nameTaken);
}

/** Who has the role has what it holds from then on. */
export async function changeRole(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  { name, id }: { readonly name: RealmName; readonly id: string },
  body: ChangeRoleBody,
): Promise<RoleOfRealm> {
  return await changeRealm(db, actor, { name, need: "roles" }, async (trx, access) => {
    const before = await requireOwnRole(trx, access, id);
    const role = {
      ...before,
      name: body.name === undefined ? before.name : requireRoleName(body.name),
      permissions: body.permissions === undefined ? before.permissions : KINDS[access.kind].maskOf(body.permissions),
    };
    refuseMore(access, role.permissions);
    await updateRole(trx, access.realm, role);
    await record(trx, actor, access, "update", {
      role: role.name,
      before: before.name,
      permissions: namesIn(access, role.permissions),
      permissions_before: namesIn(access, before.permissions),
    });
    return viewRole(access, role);
  }).catch(nameTaken);
}

/** Refused while a member has it. */
export async function deleteRole(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  { name, id }: { readonly name: RealmName; readonly id: string },
): Promise<void> {
  await changeRealm(db, actor, { name, need: "roles" }, async (trx, access) => {
    const role = await requireOwnRole(trx, access, id);
    await deleteRoleRow(trx, access.realm, role.id);
    await record(trx, actor, access, "delete", { role: role.name });
  }).catch((error: unknown) => {
    if (!foreignKeyViolation(error)) throw error;
    throw new DomainError("bad_request", "The role is in use: give its members another one first");
  });
}

async function requireRole(db: Parameters<typeof findRoleOf>[0], access: RealmAccess, id: string): Promise<RoleRow> {
  const role = await findRoleOf(db, access.realm, { id });
  if (!role) throw new DomainError("not_found", "Role not found");
  return role;
}

/** A role that can be changed, and that holds no more than the actor does. */
async function requireOwnRole(trx: Transaction<Database>, access: RealmAccess, id: string): Promise<RoleRow> {
  const role = await requireRole(trx, access, id);
  if (role.builtin) {
    throw new DomainError("forbidden", "Built-in roles stay as they are: make a role of your own beside them");
  }
  if (role.managed) {
    throw new DomainError("forbidden", "This role is declared in the server's configuration: change it there");
  }
  refuseMoreThan(access.mask, role.permissions, "The role holds permissions that you do not have yourself");
  return role;
}

function requireRoleName(name: string): string {
  if (!BUILTIN_NAMES.includes(name.toLowerCase())) return requireSlug(name, "name");
  throw new DomainError("already_exists", "name: is that of a built-in role: choose another one");
}

function refuseMore(access: RealmAccess, permissions: number): void {
  refuseMoreThan(access.mask, permissions, "permissions: a role cannot hold permissions that you do not have yourself");
}

function namesIn(access: RealmAccess, mask: number): readonly string[] {
  return KINDS[access.kind].permissionsIn(mask);
}

function viewRole(access: RealmAccess, { id, name, builtin, managed, permissions }: RoleRow): RoleOfRealm {
  const role = { id, name, builtin, managed, permissions: namesIn(access, permissions) };
  const realmId = builtin ? null : access.realm.id;
  return access.kind === "organization" ? { ...role, organization: realmId } : { ...role, cache: realmId };
}

async function record(
  trx: Transaction<Database>,
  actor: Actor,
  { kind, audit }: RealmAccess,
  deed: "create" | "update" | "delete",
  more: Readonly<Record<string, string | readonly string[]>>,
): Promise<void> {
  const event: AuditEvent = KINDS[kind].events[deed];
  await recordAudit(trx, { ...auditAuthor(actor), ...audit, event, metadata: { ...audit.metadata, ...more } });
}

function nameTaken(error: unknown): never {
  if (!/^(cache_)?role_name_key$/.test(uniqueViolation(error) ?? "")) throw error;
  throw new DomainError("already_exists", "name: there is a role of this name already");
}
