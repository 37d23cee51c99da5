import { deleteMemberOf } from "../db/realm-members.ts";
import { CACHE_TABLES, lockRealm, ORGANIZATION_TABLES, type Realm } from "../db/realms.ts";
import {
  findUserIds,
  insertStateMember,
  listPendingMembers,
  listStateMembers,
  type PendingMember,
  type RealmKind,
  type StateMember,
  setOwnRole,
  setPendingMembers,
  updateStateMember,
} from "../db/state-members.ts";
import type { StateContext } from "./state-context.ts";

/** Who the file says the members of one organization or cache are. */
export interface DeclaredMembers {
  readonly kind: RealmKind;
  readonly id: string;
  /** `organization acme`. */
  readonly what: string;
  readonly members: readonly { readonly user: string; readonly roleId: string }[];
  /** Made an Admin in any case; the id of that role. Null where nobody is. */
  readonly creator: { readonly user: string; readonly roleId: string } | null;
}

/**
 * The declared members have what the file says; with any declared, nobody else is a member. What a group at the
 * identity provider gives stays in both cases. Without a declared member only those go that the file had put there.
 */
export async function reconcileMembers(context: StateContext, declared: DeclaredMembers): Promise<void> {
  const { trx } = context;
  const { kind, id, members, creator, what } = declared;
  const isListed = creator !== null && members.some(({ user }) => user.toLowerCase() === creator.user.toLowerCase());
  const wanted = creator === null || isListed ? [...members] : [...members, creator];
  await lockRealm(trx, realmOf(declared));
  const userIds = await findUserIds(
    trx,
    wanted.map(({ user }) => user),
  );
  const present = await listStateMembers(trx, { kind, id });
  const byId = new Map(present.map((member) => [member.user_id, member]));
  const pending: PendingMember[] = [];
  const kept = new Set<string>();
  let changed = false;
  for (const { user, roleId } of wanted) {
    const userId = userIds.get(user.toLowerCase());
    if (userId === undefined) {
      pending.push({ username: user, role_id: roleId });
      continue;
    }
    kept.add(userId);
    changed = (await putMember(context, declared, { userId, roleId, member: byId.get(userId) })) || changed;
  }
  for (const member of present) {
    if (kept.has(member.user_id) || (members.length === 0 && !member.managed)) continue;
    changed = (await dropMember(context, declared, member)) || changed;
  }
  changed = (await putPending(context, declared, pending)) || changed;
  if (changed) context.note("changed", `members of ${what}`);
}

/** False when it is so already. */
async function putMember(
  { trx }: StateContext,
  { kind, id }: DeclaredMembers,
  {
    userId,
    roleId,
    member,
  }: { readonly userId: string; readonly roleId: string; readonly member: StateMember | undefined },
): Promise<boolean> {
  if (!member) {
    await insertStateMember(trx, { kind, id }, { userId, roleId });
    return true;
  }
  if (member.by_group) {
    // What the group gives is more, or the next sign-in sets it right.
    if (member.own_role_id === roleId && member.managed) return false;
    await setOwnRole(trx, { organizationId: id, userId }, roleId);
    await updateStateMember(trx, { kind, id }, userId, { roleId: member.role_id, managed: true });
    return true;
  }
  if (member.role_id === roleId && member.managed) return false;
  await updateStateMember(trx, { kind, id }, userId, { roleId, managed: true });
  return true;
}

async function dropMember({ trx }: StateContext, declared: DeclaredMembers, member: StateMember): Promise<boolean> {
  const { kind, id } = declared;
  if (!member.by_group) {
    await deleteMemberOf(trx, realmOf(declared), member.user_id);
    return true;
  }
  if (member.own_role_id === null && !member.managed) return false;
  await setOwnRole(trx, { organizationId: id, userId: member.user_id }, null);
  await updateStateMember(trx, { kind, id }, member.user_id, { roleId: member.role_id, managed: false });
  return true;
}

async function putPending(
  context: StateContext,
  { kind, id, what }: DeclaredMembers,
  pending: readonly PendingMember[],
): Promise<boolean> {
  const identity = ({ username, role_id }: PendingMember) => `${username.toLowerCase()} ${role_id}`;
  for (const { username } of pending) {
    context.warnings.push(
      `${username} has no account yet: whoever gets one by this name becomes a member of the ${what}. ` +
        "Declare the user, or see to it that strangers cannot register (GRADIENT_ENABLE_REGISTRATION)",
    );
  }
  const before = (await listPendingMembers(context.trx, { kind, id })).map(identity).sort();
  const after = pending.map(identity).sort();
  if (before.length === after.length && before.every((one, index) => one === after[index])) return false;
  await setPendingMembers(context.trx, { kind, id }, pending);
  return true;
}

function realmOf({ kind, id }: Pick<DeclaredMembers, "kind" | "id">): Realm {
  return { tables: kind === "organization" ? ORGANIZATION_TABLES : CACHE_TABLES, id };
}
