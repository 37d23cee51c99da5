import type { Transaction } from "kysely";
import {
  endMembership,
  giveGroupRole,
  giveOwnRole,
  listMarkedMemberships,
  listRolesOfGroups,
  lockOrganizations,
  type MarkedMembership,
} from "../db/group-memberships.ts";
import type { Database } from "../db/schema.ts";
import { type GroupChange, groupChanges, type Standing } from "../domain/oidc-groups.ts";
import { type AuditAuthor, recordAudit } from "./audit.ts";

const EVENTS = {
  join: "organization.member.add",
  switch: "organization.member.role_change",
  return: "organization.member.role_change",
  leave: "organization.member.remove",
} as const;

/**
 * Makes the user a member with the roles that these groups of the provider give, and takes back what groups that are
 * gone gave. What people gave stays. Null: the provider did not say which groups there are, and all stays as it is.
 */
export async function applyGroups(
  trx: Transaction<Database>,
  author: AuditAuthor & { readonly userId: string },
  groups: readonly string[] | null,
): Promise<void> {
  if (groups === null) return;
  const { userId } = author;
  const roles = groups.length > 0 ? await listRolesOfGroups(trx, groups) : [];
  const offered = roles.map((role) => ({
    organizationId: role.organization_id,
    roleId: role.role_id,
    name: role.name,
    permissions: role.permissions,
  }));
  const marked = (await listMarkedMemberships(trx, userId)).filter(({ group_role_id }) => group_role_id !== null);
  const concerned = new Set([
    ...offered.map(({ organizationId }) => organizationId),
    ...marked.map(({ organization_id }) => organization_id),
  ]);
  if (concerned.size === 0) return;
  await lockOrganizations(trx, [...concerned]);
  const standings = (await listMarkedMemberships(trx, userId)).map(standingOf);
  for (const change of groupChanges(offered, standings)) {
    await apply(trx, userId, change);
    const role = "roleId" in change ? { role_id: change.roleId } : {};
    await recordAudit(trx, {
      ...author,
      event: EVENTS[change.kind],
      organizationId: change.organizationId,
      metadata: { by: "oidc_group", user_id: userId, ...role },
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
