import type { Transaction } from "kysely";
import {
  endMembership,
  giveGroupRole,
  giveOwnRole,
  listMarkedMemberships,
  listRolesOfGroups,
  lockOrganizations,
  type MarkedMembership,
  type RoleOfGroup,
} from "../db/group-memberships.ts";
import type { Database } from "../db/schema.ts";
import { type GroupChange, groupChanges, type OfferedRole, type Standing } from "../domain/oidc-groups.ts";
import { type AuditAuthor, recordAudit } from "./audit.ts";

const EVENTS = {
  join: "organization.member.add",
  switch: "organization.member.role_change",
  return: "organization.member.role_change",
  leave: "organization.member.remove",
} as const;

/** Whose groups they are, and from where they signed in. */
export interface GroupsOwner extends AuditAuthor {
  readonly userId: string;
  readonly username: string;
}

/**
 * Makes the user a member with the roles that these groups of the provider give, and takes back what groups that are
 * gone gave. What people gave stays. Null: the provider did not say which groups there are, and all stays as it is.
 */
export async function applyGroups(
  trx: Transaction<Database>,
  owner: GroupsOwner,
  groups: readonly string[] | null,
): Promise<void> {
  if (groups === null) return;
  const { userId, username, client } = owner;
  const marked = (await listMarkedMemberships(trx, userId)).filter(({ group_role_id }) => group_role_id !== null);
  const concerned = new Set([...(await listRolesOfGroups(trx, groups)), ...marked].map((row) => row.organization_id));
  if (concerned.size === 0) return;
  await lockOrganizations(trx, [...concerned]);
  // Only now is what is read what it stays until the end.
  const roles = (await listRolesOfGroups(trx, groups)).filter((role) => concerned.has(role.organization_id));
  const memberships = await listMarkedMemberships(trx, userId);
  const nameOf = roleNames(roles, memberships);
  for (const change of groupChanges(roles.map(offeredOf), memberships.map(standingOf))) {
    await apply(trx, userId, change);
    const role = "roleId" in change ? { role: nameOf.get(change.roleId) ?? "" } : {};
    await recordAudit(trx, {
      userId,
      client,
      event: EVENTS[change.kind],
      organizationId: change.organizationId,
      metadata: { by: "oidc_group", user: username, ...role },
    });
  }
}

async function apply(trx: Transaction<Database>, userId: string, change: GroupChange): Promise<void> {
  const { organizationId } = change;
  const place = { organizationId, userId };
  switch (change.kind) {
    case "join":
    case "switch":
      return await giveGroupRole(trx, place, change);
    case "return":
      return await giveOwnRole(trx, place, change.roleId);
    case "leave":
      return await endMembership(trx, place);
  }
}

function roleNames(
  roles: readonly RoleOfGroup[],
  memberships: readonly MarkedMembership[],
): ReadonlyMap<string, string> {
  const names = new Map(roles.map(({ role_id, name }) => [role_id, name]));
  for (const { own_role_id, own_role_name } of memberships)
    if (own_role_id) names.set(own_role_id, own_role_name ?? "");
  return names;
}

function offeredOf({ organization_id, role_id, name, permissions }: RoleOfGroup): OfferedRole {
  return { organizationId: organization_id, roleId: role_id, name, permissions };
}

function standingOf(row: MarkedMembership): Standing {
  const { own_role_id: ownId, own_permissions: ownPermissions, group_role_id: groupId } = row;
  const own = ownId === null || ownPermissions === null ? null : { roleId: ownId, permissions: ownPermissions };
  return {
    organizationId: row.organization_id,
    roleId: row.role_id,
    permissions: row.permissions,
    mark: groupId === null ? null : { own },
  };
}
