import type { MemberBody, MemberView } from "../api/organizations.ts";
import {
  deleteMember,
  findMember,
  findRole,
  insertMember,
  listMembers,
  lockMembers,
  othersHaveRole,
  type RoleByName,
  updateMemberRole,
} from "../db/members.ts";
import { findUserIdByName } from "../db/users.ts";
import type { Actor } from "../domain/actor.ts";
import { ORGANIZATION_ROLE } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { type OrganizationAccess, requireOrganization } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

type MemberDeps = Pick<ServiceDeps, "db">;

export async function listOrganizationMembers(deps: MemberDeps, actor: Actor, name: string): Promise<MemberView[]> {
  const { organization } = await requireOrganization(deps, actor, name, "read");
  return (await listMembers(deps.db, organization.id)).map((member) => ({
    id: member.username,
    name: member.role_name,
  }));
}

export async function addMember(deps: MemberDeps, actor: Actor, name: string, body: MemberBody): Promise<void> {
  const access = await requireMemberManager(deps, actor, name);
  const userId = await requireUserId(deps, body.user);
  const role = await requireRole(deps, access, body.role);
  const member = { organization_id: access.organization.id, user_id: userId, role_id: role.id };
  if (!(await insertMember(deps.db, member))) {
    throw new DomainError("conflict", "user: is a member already; PATCH changes the role");
  }
}

export async function changeMember(deps: MemberDeps, actor: Actor, name: string, body: MemberBody): Promise<void> {
  const access = await requireMemberManager(deps, actor, name);
  const userId = await requireUserId(deps, body.user);
  const role = await requireRole(deps, access, body.role);
  await replaceRole(deps, access, userId, role);
}

export async function removeMember(deps: MemberDeps, actor: Actor, name: string, username: string): Promise<void> {
  const access = await requireMemberManager(deps, actor, name);
  await replaceRole(deps, access, await requireUserId(deps, username), null);
}

/** Null removes the member. An organization never loses its last Admin, and nobody acts on who holds more. */
async function replaceRole(
  { db }: MemberDeps,
  access: OrganizationAccess,
  userId: string,
  role: RoleByName | null,
): Promise<void> {
  const organizationId = access.organization.id;
  await db.transaction().execute(async (trx) => {
    await lockMembers(trx, organizationId);
    const member = await findMember(trx, organizationId, userId);
    if (!member) throw new DomainError("bad_request", "user: is not a member of this organization");
    refuseMoreThan(access.mask, member.permissions, "user: has permissions that you do not have yourself");
    const admin = ORGANIZATION_ROLE.Admin;
    if (member.role_id === admin && role?.id !== admin) {
      if (!(await othersHaveRole(trx, { organizationId, userId, roleId: admin }))) {
        throw new DomainError(
          "conflict",
          "user: is the organization's last Admin; give another member that role first",
        );
      }
    }
    if (role) await updateMemberRole(trx, { organizationId, userId, roleId: role.id });
    else await deleteMember(trx, organizationId, userId);
  });
}

async function requireMemberManager(deps: MemberDeps, actor: Actor, name: string): Promise<OrganizationAccess> {
  return await requireOrganization(deps, actor, name, "manageMembers", { unmanaged: true });
}

async function requireUserId({ db }: MemberDeps, username: string): Promise<string> {
  const id = await findUserIdByName(db, username);
  if (!id) throw new DomainError("not_found", "user: there is no user of this name");
  return id;
}

async function requireRole({ db }: MemberDeps, access: OrganizationAccess, name: string): Promise<RoleByName> {
  const role = await findRole(db, access.organization.id, name);
  if (!role) throw new DomainError("not_found", "role: this organization has no role of this name");
  refuseMoreThan(access.mask, role.permissions, "role: holds permissions that you do not have yourself");
  return role;
}

function refuseMoreThan(own: number, permissions: number, message: string): void {
  if ((permissions & ~own) !== 0) throw new DomainError("forbidden", message);
}
