import type { StateOrganization } from "../api/state.ts";
import {
  deleteManaged,
  deleteMembersWithRole,
  insertManaged,
  listStateRoles,
  releaseManaged,
  updateManaged,
} from "../db/state-rows.ts";
import { isOrganizationPermission, ORGANIZATION_ROLE, organizationMask } from "../domain/permissions.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { reconcileMembers } from "./state-members.ts";

/** Roles of organizations, with the groups that give them. */
export async function reconcileRoles(context: StateContext): Promise<void> {
  const { trx, document } = context;
  const rows = await listStateRoles(trx, [...context.organizationIds.values()]);
  const known = new Map(rows.map((row) => [identity(row.organization_id as string, row.name), row]));
  for (const { name, organization, permissions, oidc_group, scim_group } of document.roles) {
    const organizationId = context.organizationId(organization);
    const wanted = {
      permissions: organizationMask(permissions.filter(isOrganizationPermission)),
      oidc_groups: [...new Set(oidc_group)],
      scim_groups: [...new Set(scim_group)],
    };
    const what = `role ${name} of ${organization}`;
    const row = known.get(identity(organizationId, name));
    if (!row) {
      await insertManaged(trx, "role", { id: context.newId(), organization_id: organizationId, name, ...wanted });
      context.note("created", what);
      continue;
    }
    const changes = differences(row, { ...wanted, managed: true });
    if (isEmpty(changes)) continue;
    await updateManaged(trx, "role", row.id, changes);
    context.note(row.managed ? "changed" : "taken over", what);
  }
}

/** After the roles, of which they are. */
export async function reconcileOrganizationMembers(context: StateContext): Promise<void> {
  const rows = await listStateRoles(context.trx, [...context.organizationIds.values()]);
  const roles = new Map(rows.map((row) => [identity(row.organization_id as string, row.name), row.id]));
  const builtIn = new Map<string, string>(Object.entries(ORGANIZATION_ROLE));
  for (const { name, created_by, members } of context.document.organizations) {
    const id = context.organizationId(name);
    const roleOf = (role: string): string => builtIn.get(role) ?? (roles.get(identity(id, role)) as string);
    await reconcileMembers(context, {
      kind: "organization",
      id,
      what: `organization ${name}`,
      members: members.map(({ user, role }) => ({ user, roleId: roleOf(role) })),
      creator: creatorOf({ created_by, members }),
    });
  }
}

/** After the members, who may have had them. Who has one still, from a group, loses the membership with it. */
export async function removeRoles(context: StateContext): Promise<void> {
  const { trx, document, options } = context;
  const declared = new Set(document.roles.map(({ name, organization }) => JSON.stringify([organization, name])));
  const rows = await listStateRoles(trx, []);
  const leaving = rows.filter((row) => row.managed && !declared.has(JSON.stringify([row.organization_name, row.name])));
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) {
    for (const id of ids) await deleteMembersWithRole(trx, id);
    await deleteManaged(trx, "role", ids);
  } else await releaseManaged(trx, "role", ids);
  for (const { name, organization_name } of leaving) {
    context.note(options.deleteUnlisted ? "deleted" : "released", `role ${name} of ${organization_name}`);
  }
}

/** With members declared, the creator is one of them or none at all. */
function creatorOf({ created_by, members }: Pick<StateOrganization, "created_by" | "members">) {
  if (created_by === null || members.length > 0) return null;
  return { user: created_by, roleId: ORGANIZATION_ROLE.Admin };
}

function identity(organizationId: string, name: string): string {
  return `${organizationId} ${name}`;
}
