import { type Kysely, sql, type Transaction } from "kysely";
import { CACHE_ROLE, ORGANIZATION_ROLE } from "../domain/permissions.ts";
import type { Database } from "./schema.ts";

/**
 * Names of organizations that would have no active Admin without this user, of those that are not declared in the state
 * file. They are locked: nobody else's leaving or deletion overlaps.
 */
export async function lockOrganizationsLedBy(trx: Transaction<Database>, userId: string): Promise<string[]> {
  const admin = ORGANIZATION_ROLE.Admin;
  const locked = await sql<{ id: string }>`
    select id from organization where id in (
      select organization_id from organization_member where user_id = ${userId} and role_id = ${admin})
    order by id for no key update`.execute(trx);
  const { rows } = await sql<{ name: string }>`
    select name from organization o where id = any(${locked.rows.map(({ id }) => id)}) and not managed
      and not exists (
        select from organization_member m join user_account u on u.id = m.user_id
        where m.organization_id = o.id and m.role_id = ${admin} and m.user_id <> ${userId} and u.active)
    order by name`.execute(trx);
  return rows.map(({ name }) => name);
}

/** The same of caches with a name. */
export async function lockCachesLedBy(trx: Transaction<Database>, userId: string): Promise<string[]> {
  const admin = CACHE_ROLE.Admin;
  const locked = await sql<{ id: string }>`
    select id from cache where id in (
      select cache_id from cache_member where user_id = ${userId} and role_id = ${admin})
    order by id for no key update`.execute(trx);
  const { rows } = await sql<{ name: string }>`
    select name from cache c where id = any(${locked.rows.map(({ id }) => id)}) and not managed and name is not null
      and not exists (
        select from cache_member m join user_account u on u.id = m.user_id
        where m.cache_id = c.id and m.role_id = ${admin} and m.user_id <> ${userId} and u.active)
    order by name`.execute(trx);
  return rows.map(({ name }) => name);
}

/**
 * Whether the account has no API key and no membership but what the state file gave to its name. It is locked: nothing
 * is given to it until the transaction ends.
 */
export async function lockIfHoldsNothing(trx: Transaction<Database>, id: string): Promise<boolean> {
  await trx.selectFrom("user_account").select("id").where("id", "=", id).forUpdate().execute();
  const { rows } = await sql`
    select where not exists (select from api_key where owner_id = ${id})
      and not exists (select from organization_member where user_id = ${id} and not managed)
      and not exists (select from group_membership where user_id = ${id})
      and not exists (select from cache_member where user_id = ${id} and not managed)`.execute(trx);
  return rows.length > 0;
}

/** With sessions, API keys, memberships, build requests and unfinished uploads. All else stays, as nobody's. */
export async function deleteUser(db: Kysely<Database>, id: string): Promise<void> {
  await db.deleteFrom("user_account").where("id", "=", id).execute();
}
