import { type Kysely, sql, type Transaction } from "kysely";
import type { Database, UserAccountRow } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export interface Identity {
  readonly issuer: string;
  readonly subject: string;
}

export type SignInUser = Pick<
  UserAccountRow,
  "id" | "username" | "name" | "email" | "email_verified" | "superuser" | "active" | "managed"
>;

export type KnownAccount = SignInUser & {
  readonly has_password: boolean;
  readonly never_signed_in: boolean;
  /** The issuer of the identity that the account is linked to. */
  readonly issuer: string | null;
};

const SIGN_IN_COLUMNS = [
  "user_account.id",
  "username",
  "name",
  "email",
  "email_verified",
  "superuser",
  "active",
  "managed",
] as const;
const RETURNS_SWEPT_MAX = 1_000;

/** Two sign-ins of one identity come one after the other, until the transaction ends. */
export async function lockIdentity(trx: Transaction<Database>, { issuer, subject }: Identity): Promise<void> {
  const name = JSON.stringify(["identity", issuer, subject]);
  await sql`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`.execute(trx);
}

export async function findUserOfIdentity(
  db: Kysely<Database>,
  { issuer, subject }: Identity,
): Promise<SignInUser | undefined> {
  return await db
    .selectFrom("user_identity")
    .innerJoin("user_account", "user_account.id", "user_identity.user_id")
    .select(SIGN_IN_COLUMNS)
    .where("issuer", "=", issuer)
    .where("subject", "=", subject)
    .executeTakeFirst();
}

/**
 * The accounts that have this user name or this address, in any case; two at most. They are locked: nobody else links
 * or changes them until the transaction ends.
 */
export async function lockAccountsLike(
  trx: Transaction<Database>,
  { username, email }: { readonly username: string; readonly email: string | null },
): Promise<KnownAccount[]> {
  const byName = sql<boolean>`lower(username) = lower(${username})`;
  const byEmail = sql<boolean>`lower(email) = lower(${email ?? "@"})`;
  const accounts = await trx
    .selectFrom("user_account")
    .select(SIGN_IN_COLUMNS)
    .select(sql<boolean>`password_hash is not null`.as("has_password"))
    .select(sql<boolean>`last_login_at is null`.as("never_signed_in"))
    .where((eb) => eb.or([byName, byEmail]))
    .orderBy("user_account.id")
    .forNoKeyUpdate()
    .execute();
  if (accounts.length === 0) return [];
  // Only a later statement sees what was linked while this one waited for the lock.
  const links = await trx
    .selectFrom("user_identity")
    .select(["user_id", "issuer"])
    .where(
      "user_id",
      "in",
      accounts.map(({ id }) => id),
    )
    .execute();
  const issuers = new Map(links.map(({ user_id, issuer }) => [user_id, issuer]));
  return accounts.map((account) => ({ ...account, issuer: issuers.get(account.id) ?? null }));
}

/**
 * Links the account to the identity, and to no other one; a password goes. Fails on `user_identity_key` where another
 * account has the identity.
 */
export async function linkIdentity(
  trx: Transaction<Database>,
  userId: string,
  { issuer, subject }: Identity,
): Promise<void> {
  await trx
    .insertInto("user_identity")
    .values({ user_id: userId, issuer, subject })
    .onConflict((conflict) => conflict.column("user_id").doUpdateSet({ issuer, subject, linked_at: databaseNow }))
    .execute();
  await trx
    .updateTable("user_account")
    .set({ password_hash: null })
    .where("id", "=", userId)
    .where("password_hash", "is not", null)
    .execute();
}

export type ProfileColumns = Partial<Pick<UserAccountRow, "name" | "email" | "email_verified">>;

export async function updateProfile(
  trx: Transaction<Database>,
  userId: string,
  columns: ProfileColumns,
): Promise<void> {
  if (Object.keys(columns).length === 0) return;
  await trx.updateTable("user_account").set(columns).where("id", "=", userId).execute();
}

/** Whether anyone else has the address, in any case. */
export async function emailIsTaken(db: Kysely<Database>, email: string, exceptUserId: string | null): Promise<boolean> {
  let query = db.selectFrom("user_account").select("id").where(sql<boolean>`lower(email) = lower(${email})`);
  if (exceptUserId !== null) query = query.where("id", "<>", exceptUserId);
  return (await query.limit(1).executeTakeFirst()) !== undefined;
}

export async function usernameIsTaken(db: Kysely<Database>, username: string): Promise<boolean> {
  const row = await db
    .selectFrom("user_account")
    .select("id")
    .where(sql<boolean>`lower(username) = lower(${username})`)
    .executeTakeFirst();
  return row !== undefined;
}

/** Whether a membership waits for somebody who gets this name. */
export async function usernameIsAwaited(db: Kysely<Database>, username: string): Promise<boolean> {
  const row = await db
    .selectFrom("pending_member")
    .select("username")
    .where(sql<boolean>`lower(username) = lower(${username})`)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** False when this sign-in came back before. What is older than `lifetimeMs` cannot come back and is forgotten. */
export async function noteReturn(db: Kysely<Database>, stateHash: Uint8Array, lifetimeMs: number): Promise<boolean> {
  await sql`
    delete from oidc_return where state_hash in (
      select state_hash from oidc_return where expires_at < gradient_now() limit ${RETURNS_SWEPT_MAX}
      for update skip locked)`.execute(db);
  const row = await db
    .insertInto("oidc_return")
    .values({ state_hash: stateHash, expires_at: databaseNowPlus(lifetimeMs) })
    .onConflict((conflict) => conflict.doNothing())
    .returning("state_hash")
    .executeTakeFirst();
  return row !== undefined;
}
