import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

/** What following a link does. */
export const TokenPurpose = { ProveAddress: 0, SetPassword: 1 } as const;
export type TokenPurpose = (typeof TokenPurpose)[keyof typeof TokenPurpose];

export interface NewAccountToken {
  readonly id: string;
  readonly user_id: string;
  readonly purpose: TokenPurpose;
  readonly email: string;
}

export interface FollowedToken {
  readonly user_id: string;
  readonly email: string;
}

/** Links of one kind to one user that are good at a time. The oldest go first. */
export const ACCOUNT_TOKENS_MAX = 5;

/** Starts a token that is good for `lifetimeMs`, without its hash. */
export async function insertAccountToken(
  db: Kysely<Database>,
  token: NewAccountToken,
  lifetimeMs: number,
): Promise<void> {
  const newest = db
    .selectFrom("account_token")
    .select("id")
    .where("user_id", "=", token.user_id)
    .where("purpose", "=", token.purpose)
    .orderBy("created_at", "desc")
    .limit(ACCOUNT_TOKENS_MAX - 1);
  await db
    .deleteFrom("account_token")
    .where("user_id", "=", token.user_id)
    .where("purpose", "=", token.purpose)
    .where("id", "not in", newest)
    .execute();
  await db
    .insertInto("account_token")
    .values({ ...token, expires_at: databaseNowPlus(lifetimeMs) })
    .execute();
}

/** False when the token is of no use any more. */
export async function setTokenHash(db: Kysely<Database>, id: string, hash: Uint8Array): Promise<boolean> {
  const result = await db
    .updateTable("account_token")
    .set({ token_hash: hash })
    .where("id", "=", id)
    .where("expires_at", ">", databaseNow)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

export async function findAccountToken(
  db: Kysely<Database>,
  hash: Uint8Array,
  purpose: TokenPurpose,
): Promise<FollowedToken | undefined> {
  return await db
    .selectFrom("account_token")
    .select(["user_id", "email"])
    .where("token_hash", "=", hash)
    .where("purpose", "=", purpose)
    .where("expires_at", ">", databaseNow)
    .executeTakeFirst();
}

/** The same, and the token is used: of several that follow one link at once, one gets it. */
export async function takeAccountToken(
  db: Kysely<Database>,
  hash: Uint8Array,
  purpose: TokenPurpose,
): Promise<FollowedToken | undefined> {
  return await db
    .deleteFrom("account_token")
    .where("token_hash", "=", hash)
    .where("purpose", "=", purpose)
    .where("expires_at", ">", databaseNow)
    .returning(["user_id", "email"])
    .executeTakeFirst();
}

/** All links of this kind that are on their way to the user, and the mails that would bring them. */
export async function deleteAccountTokens(db: Kysely<Database>, userId: string, purpose: TokenPurpose): Promise<void> {
  await db.deleteFrom("account_token").where("user_id", "=", userId).where("purpose", "=", purpose).execute();
}

/** A link that somebody else had sent to an address of theirs moves the account no more. */
export async function deleteLinksToOtherAddresses(db: Kysely<Database>, userId: string): Promise<void> {
  const own = sql`(select lower(email) from user_account where id = ${userId})`;
  await db
    .deleteFrom("account_token")
    .where("user_id", "=", userId)
    .where("purpose", "=", TokenPurpose.ProveAddress)
    .where(sql<boolean>`lower(email) <> ${own}`)
    .execute();
}

export interface AccountTokenCounts {
  /** Good ones. */
  readonly live: number;
  /** Of those, begun within the time asked about. */
  readonly recent: number;
}

export async function countAccountTokens(
  db: Kysely<Database>,
  { userId, purpose }: { readonly userId: string; readonly purpose: TokenPurpose },
  withinMs: number,
): Promise<AccountTokenCounts> {
  return await db
    .selectFrom("account_token")
    .select(sql<number>`count(*)::int`.as("live"))
    .select(sql<number>`count(*) filter (where created_at > ${databaseNowPlus(-withinMs)})::int`.as("recent"))
    .where("user_id", "=", userId)
    .where("purpose", "=", purpose)
    .where("expires_at", ">", databaseNow)
    .executeTakeFirstOrThrow();
}

/** `limit` rows at most. Returns how many went. */
export async function deleteExpiredAccountTokens(db: Kysely<Database>, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from account_token where id in (
      select id from account_token where expires_at < ${databaseNow} limit ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
}
