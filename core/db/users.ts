import { type Insertable, type Kysely, sql, type Transaction, type Updateable } from "kysely";
import type { Database, UserAccountRow, UserAccountTable } from "./schema.ts";

export type UserForLogin = Pick<
  UserAccountRow,
  "id" | "username" | "superuser" | "active" | "password_hash" | "email_verified"
>;
export type UserView = Pick<UserAccountRow, "id" | "username" | "name" | "email" | "superuser">;
export type UserAccount = Omit<UserAccountRow, "created_at" | "last_login_at">;
export type FoundUser = Pick<UserAccountRow, "id" | "username" | "name">;
export type UserChanges = Pick<
  Updateable<UserAccountTable>,
  "username" | "name" | "email" | "email_verified" | "password_hash"
>;

/** By user name or e-mail address, either in any case: both are unique so. */
export async function findUserForLogin(db: Kysely<Database>, loginName: string): Promise<UserForLogin | undefined> {
  const column = loginName.includes("@") ? sql`lower(email)` : sql`lower(username)`;
  return await db
    .selectFrom("user_account")
    .select(["id", "username", "superuser", "active", "password_hash", "email_verified"])
    .where(sql<boolean>`${column} = lower(${loginName})`)
    .executeTakeFirst();
}

export async function findUserById(db: Kysely<Database>, id: string): Promise<UserView | undefined> {
  return await db
    .selectFrom("user_account")
    .select(["id", "username", "name", "email", "superuser"])
    .where("id", "=", id)
    .executeTakeFirst();
}

/** With the hash of the password, for changes of the account itself. */
export async function findUserAccount(db: Kysely<Database>, id: string): Promise<UserAccount | undefined> {
  return await accounts(db, id).executeTakeFirst();
}

/** The same, and nobody else changes it meanwhile. */
export async function lockUserAccount(trx: Transaction<Database>, id: string): Promise<UserAccount | undefined> {
  return await accounts(trx, id).forNoKeyUpdate().executeTakeFirst();
}

/** In any case. */
export async function findUserIdByName(db: Kysely<Database>, username: string): Promise<string | undefined> {
  const row = await db
    .selectFrom("user_account")
    .select("id")
    .where(sql<boolean>`lower(username) = lower(${username})`)
    .executeTakeFirst();
  return row?.id;
}

/** Whether the address belongs to a user, in any case. */
export async function emailIsTaken(db: Kysely<Database>, email: string): Promise<boolean> {
  const row = await db
    .selectFrom("user_account")
    .select("id")
    .where(sql<boolean>`lower(email) = lower(${email})`)
    .executeTakeFirst();
  return row !== undefined;
}

/** Shorter texts are in too many names, and in no index of parts. */
const PART_LENGTH_MIN = 3;

/**
 * Active users whose user name or name contains the text, in any case; those whose user name begins with it first. A
 * text of one or two letters is looked for at the beginning of words of the name and of the user name only.
 */
export async function searchUsers(db: Kysely<Database>, text: string, limit: number): Promise<FoundUser[]> {
  const pattern = text.replace(/[\\%_]/g, "\\$&").toLowerCase();
  const begins = sql<boolean>`lower(username) like ${`${pattern}%`}`;
  const isShort = text.length < PART_LENGTH_MIN;
  const sought = isShort ? `${pattern}%` : `%${pattern}%`;
  // The index of parts knows where words begin.
  const inName = isShort ? sql<boolean>`or lower(name) like ${`% ${pattern}%`}` : sql``;
  return await db
    .selectFrom("user_account")
    .select(["id", "username", "name"])
    .where("active", "=", true)
    .where(sql<boolean>`(lower(username) like ${sought} or lower(name) like ${sought} ${inName})`)
    .orderBy(begins, "desc")
    .orderBy(sql`lower(username)`)
    .limit(limit)
    .execute();
}

/** Whether anybody else who is active is a superuser. Superusers are locked: two that leave at once leave in turn. */
export async function lockOtherSuperusers(trx: Transaction<Database>, userId: string): Promise<boolean> {
  const superusers = await trx
    .selectFrom("user_account")
    .select(["id", "active"])
    .where("superuser", "=", sql.lit(true))
    .orderBy("id")
    .forNoKeyUpdate()
    .execute();
  return superusers.some(({ id, active }) => active && id !== userId);
}

/** Fails on `user_account_username_key` or `user_account_email_key`. */
export async function insertUser(db: Kysely<Database>, user: Insertable<UserAccountTable>): Promise<void> {
  await db.insertInto("user_account").values(user).execute();
}

/** Fails as `insertUser` does. */
export async function updateUser(db: Kysely<Database>, id: string, changes: UserChanges): Promise<void> {
  if (Object.keys(changes).length === 0) return;
  await db.updateTable("user_account").set(changes).where("id", "=", id).execute();
}

function accounts(db: Kysely<Database>, id: string) {
  return db
    .selectFrom("user_account")
    .select(["id", "username", "name", "email", "password_hash", "email_verified", "superuser", "active", "managed"])
    .where("id", "=", id);
}
