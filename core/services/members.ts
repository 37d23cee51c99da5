import type { Kysely, Transaction } from "kysely";
import type { MemberBody, MemberView } from "../api/organizations.ts";
import {
  deleteMemberOf,
  findMemberOf,
  hasOtherWithRole,
  insertMemberOf,
  listMembersOf,
  type RoleOfMember,
  updateMemberOf,
} from "../db/realm-members.ts";
import { ORGANIZATION_TABLES, type Realm } from "../db/realms.ts";
import { findRoleOf, type RoleRow } from "../db/roles.ts";
import type { Database } from "../db/schema.ts";
import { findUserIdByName } from "../db/users.ts";
import type { Actor } from "../domain/actor.ts";
import type { AuditEvent } from "../domain/audit-events.ts";
import { DomainError } from "../errors.ts";
import { requireOrganization } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { changeRealm, type RealmAccess, type RealmName, refuseMoreThan, requireRealm } from "./realms.ts";
import { refuseVanished } from "./vanished.ts";

type MemberDeps = Pick<ServiceDeps, "db">;

const EVENTS = {
  organization: {
    add: "organization.member.add",
    change: "organization.member.role_change",
    remove: "organization.member.remove",
  },
  cache: { add: "cache.member.create", change: "cache.member.update", remove: "cache.member.delete" },
} as const satisfies Record<RealmAccess["kind"], Record<string, AuditEvent>>;

/** Of a public organization everybody may know its members; of a cache, who belongs to it. */
export async function listMembers({ db }: MemberDeps, actor: Actor, name: RealmName): Promise<MemberView[]> {
  const members = await listMembersOf(db, await findListedRealm(db, actor, name));
  return members.map(({ username, role_name }) => ({ id: username, name: role_name }));
}

export async function addMember(deps: MemberDeps, actor: Actor, name: RealmName, body: MemberBody): Promise<void> {
  await changeRealm(deps.db, actor, { name, need: "members" }, async (trx, access) => {
    const userId = await requireUserId(trx, body.user);
    const role = await requireRole(trx, access, body.role);
    if (!(await insertMemberOf(trx, access.realm, { userId, roleId: role.id }))) {
      throw new DomainError("conflict", "user: is a member already; PATCH changes the role");
    }
    await record(trx, actor, access, { event: EVENTS[access.kind].add, user: body.user, role: role.name });
  }).catch(refuseVanished);
}

export async function changeMember(deps: MemberDeps, actor: Actor, name: RealmName, body: MemberBody): Promise<void> {
  await changeRealm(deps.db, actor, { name, need: "members" }, async (trx, access) => {
    const userId = await requireUserId(trx, body.user);
    const role = await requireRole(trx, access, body.role);
    const member = await requireMember(trx, access, userId);
    if (role.id !== access.adminRoleId) await refuseLastAdmin(trx, access, { userId, member });
    await updateMemberOf(trx, access.realm, { userId, roleId: role.id });
    const event = EVENTS[access.kind].change;
    await record(trx, actor, access, { event, user: body.user, role: role.name, before: member.role_name });
  });
}

export async function removeMember(deps: MemberDeps, actor: Actor, name: RealmName, username: string): Promise<void> {
  await changeRealm(deps.db, actor, { name, need: "members" }, async (trx, access) => {
    const userId = await requireUserId(trx, username);
    const member = await requireMember(trx, access, userId);
    await refuseLastAdmin(trx, access, { userId, member });
    await deleteMemberOf(trx, access.realm, userId);
    await record(trx, actor, access, { event: EVENTS[access.kind].remove, user: username, before: member.role_name });
  });
}

async function findListedRealm(db: Kysely<Database>, actor: Actor, name: RealmName): Promise<Realm> {
  if ("cache" in name) return (await requireRealm(db, actor, name, "look")).realm;
  const { organization } = await requireOrganization({ db }, actor, name.organization, "read");
  return { tables: ORGANIZATION_TABLES, id: organization.id };
}

async function requireUserId(trx: Transaction<Database>, username: string): Promise<string> {
  const id = await findUserIdByName(trx, username);
  if (!id) throw new DomainError("not_found", "user: there is no user of this name");
  return id;
}

async function requireRole(trx: Transaction<Database>, access: RealmAccess, name: string): Promise<RoleRow> {
  const role = await findRoleOf(trx, access.realm, { name });
  if (!role) throw new DomainError("not_found", `role: this ${access.kind} has no role of this name`);
  refuseMoreThan(access.mask, role.permissions, "role: holds permissions that you do not have yourself");
  return role;
}

/** Nobody acts on who holds more. */
async function requireMember(trx: Transaction<Database>, access: RealmAccess, userId: string): Promise<RoleOfMember> {
  const member = await findMemberOf(trx, access.realm, userId);
  if (!member) throw new DomainError("bad_request", `user: is not a member of this ${access.kind}`);
  refuseMoreThan(access.mask, member.permissions, "user: has permissions that you do not have yourself");
  return member;
}

async function refuseLastAdmin(
  trx: Transaction<Database>,
  { realm, kind, adminRoleId }: RealmAccess,
  { userId, member }: { readonly userId: string; readonly member: RoleOfMember },
): Promise<void> {
  if (member.role_id !== adminRoleId) return;
  if (await hasOtherWithRole(trx, realm, { userId, roleId: adminRoleId })) return;
  throw new DomainError("conflict", `user: is the ${kind}'s last Admin; give another member that role first`);
}

async function record(
  trx: Transaction<Database>,
  actor: Actor,
  { audit }: RealmAccess,
  { event, ...more }: { readonly event: AuditEvent; readonly user: string; role?: string; before?: string },
): Promise<void> {
  await recordAudit(trx, { ...auditAuthor(actor), ...audit, event, metadata: { ...audit.metadata, ...more } });
}
