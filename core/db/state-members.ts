import { type Kysely, sql, type Transaction } from "kysely";
import { CACHE_TABLES, ORGANIZATION_TABLES, type Realm } from "./realms.ts";
import type { Database } from "./schema.ts";

export type RealmKind = "organization" | "cache";

export interface StateMember {
  readonly user_id: string;
  readonly username: string;
  readonly role_id: string;
  /** Put there by the state file. */
  readonly managed: boolean;
  /** A group at the identity provider gives the role. */
  readonly by_group: boolean;
  /** What the member has without any group; null: nothing, or no group gives the role. */
  readonly own_role_id: string | null;
}

interface Place {
  readonly kind: RealmKind;
  readonly id: string;
}

export interface PendingMember {
  readonly username: string;
  readonly role_id: string;
}

/** The members of an organization or a cache. */
export async function listStateMembers(trx: Transaction<Database>, { kind, id }: Place): Promise<StateMember[]> {
  const { members, realmId } = tablesOf(kind);
  const mark =
    kind === "organization"
      ? sql`left join group_membership g on g.organization_id = m.organization_id and g.user_id = m.user_id
          and g.role_id = m.role_id`
      : sql`left join (select null::uuid as user_id, null::uuid as own_role_id where false) g on true`;
  const { rows } = await sql<StateMember>`
    select m.user_id, u.username, m.role_id, m.managed, g.user_id is not null as by_group, g.own_role_id
    from ${members} m join user_account u on u.id = m.user_id ${mark}
    where m.${realmId} = ${id} order by m.user_id`.execute(trx);
  return rows;
}

export async function insertStateMember(
  trx: Transaction<Database>,
  { kind, id }: Place,
  { userId, roleId }: { readonly userId: string; readonly roleId: string },
): Promise<void> {
  const { members, realmId } = tablesOf(kind);
  await sql`
    insert into ${members} (${realmId}, user_id, role_id, managed) values (${id}, ${userId}, ${roleId}, true)
    on conflict (${realmId}, user_id) do update set role_id = excluded.role_id, managed = true`.execute(trx);
}

export async function updateStateMember(
  trx: Transaction<Database>,
  { kind, id }: Place,
  userId: string,
  { roleId, managed }: { readonly roleId: string; readonly managed: boolean },
): Promise<void> {
  const { members, realmId } = tablesOf(kind);
  await sql`
    update ${members} set role_id = ${roleId}, managed = ${managed}
    where ${realmId} = ${id} and user_id = ${userId}`.execute(trx);
}

/** What a member has when no group at the identity provider gives more. */
export async function setOwnRole(
  trx: Transaction<Database>,
  { organizationId, userId }: { readonly organizationId: string; readonly userId: string },
  roleId: string | null,
): Promise<void> {
  await trx
    .updateTable("group_membership")
    .set({ own_role_id: roleId })
    .where("organization_id", "=", organizationId)
    .where("user_id", "=", userId)
    .execute();
}

/** Members that the file put there may be changed by people from now on; nobody waits for an account any more. */
export async function releaseMembersOf(trx: Transaction<Database>, kind: RealmKind, id: string): Promise<void> {
  const { members, realmId } = tablesOf(kind);
  await sql`update ${members} set managed = false where ${realmId} = ${id} and managed`.execute(trx);
  await sql`delete from pending_member where ${realmId} = ${id}`.execute(trx);
}

/** In lower case, with the ids of those who have an account. */
export async function findUserIds(trx: Kysely<Database>, usernames: readonly string[]): Promise<Map<string, string>> {
  const names = usernames.map((username) => username.toLowerCase());
  const rows = await trx
    .selectFrom("user_account")
    .select(["id", sql<string>`lower(username)`.as("name")])
    .where(sql<boolean>`lower(username) = any(${names}::text[])`)
    .execute();
  return new Map(rows.map(({ id, name }) => [name, id]));
}

export async function listPendingMembers(trx: Kysely<Database>, { kind, id }: Place): Promise<PendingMember[]> {
  const { realmId } = tablesOf(kind);
  const { rows } = await sql<PendingMember>`
    select username, ${roleColumn(kind)} as role_id from pending_member where ${realmId} = ${id}
    order by lower(username)`.execute(trx);
  return rows;
}

/** Replaces those who wait for an account. */
export async function setPendingMembers(
  trx: Transaction<Database>,
  { kind, id }: Place,
  members: readonly PendingMember[],
): Promise<void> {
  const { realmId } = tablesOf(kind);
  await sql`delete from pending_member where ${realmId} = ${id}`.execute(trx);
  for (const { username, role_id } of members) {
    await sql`
      insert into pending_member (${realmId}, ${roleColumn(kind)}, username)
      values (${id}, ${role_id}, ${username})`.execute(trx);
  }
}

/**
 * Makes a new account the member that it was declared to be, in the transaction that makes it. Where it is a member
 * already, it stays what it is until the file is applied next.
 */
export async function admitPendingMember(
  trx: Transaction<Database>,
  { userId, username }: { readonly userId: string; readonly username: string },
): Promise<void> {
  await sql`
    with taken as (
      delete from pending_member where lower(username) = lower(${username})
      returning organization_id, role_id, cache_id, cache_role_id
    ), of_organization as (
      insert into organization_member (organization_id, user_id, role_id, managed)
      select organization_id, ${userId}::uuid, role_id, true from taken where organization_id is not null
      on conflict do nothing
    )
    insert into cache_member (cache_id, user_id, role_id, managed)
    select cache_id, ${userId}::uuid, cache_role_id, true from taken where cache_id is not null
    on conflict do nothing`.execute(trx);
}

/** Before an account is deleted: what it was declared to be waits for the next account of its name. */
export async function awaitMemberAgain(
  trx: Transaction<Database>,
  { userId, username }: { readonly userId: string; readonly username: string },
): Promise<void> {
  await sql`
    insert into pending_member (organization_id, role_id, cache_id, cache_role_id, username)
    select organization_id, role_id, null::uuid, null::uuid, ${username} from organization_member
      where user_id = ${userId} and managed
    union all
    select null::uuid, null::uuid, cache_id, role_id, ${username} from cache_member
      where user_id = ${userId} and managed
    on conflict do nothing`.execute(trx);
}

function tablesOf(kind: RealmKind): Realm["tables"] {
  return kind === "organization" ? ORGANIZATION_TABLES : CACHE_TABLES;
}

function roleColumn(kind: RealmKind) {
  return sql.ref(kind === "organization" ? "role_id" : "cache_role_id");
}
