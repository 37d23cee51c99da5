import { type Insertable, type Kysely, sql } from "kysely";
import type { Database, UserAccountRow, UserAccountTable } from "./schema.ts";
import { databaseNow } from "./time.ts";

export type UserForLogin = Pick<UserAccountRow, "id" | "username" | "superuser" | "active" | "password_hash">;
export type UserView = Pick<UserAccountRow, "id" | "username" | "name" | "email" | "superuser">;

/** By user name or e-mail address, either in any case: both are unique so. */
export async function findUserForLogin(db: Kysely<Database>, loginName: string): Promise<UserForLogin | undefined> {
  const column = loginName.includes("@") ? sql`lower(email)` : sql`lower(username)`;
  return await db
    .selectFrom("user_account")
    .select(["id", "username", "superuser", "active", "password_hash"])
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

/** In any case. */
export async function findUserIdByName(db: Kysely<Database>, username: string): Promise<string | undefined> {
  const row = await db
    .selectFrom("user_account")
    .select("id")
    .where(sql<boolean>`lower(username) = lower(${username})`)
    .executeTakeFirst();
  return row?.id;
}

/** Fails on `user_account_username_key` or `user_account_email_key`. */
export async function insertUser(db: Kysely<Database>, user: Insertable<UserAccountTable>): Promise<void> {
  await db.insertInto("user_account").values(user).execute();
}

export async function noteLogin(db: Kysely<Database>, userId: string): Promise<void> {
  await db.updateTable("user_account").set({ last_login_at: databaseNow }).where("id", "=", userId).execute();
}
