import { type Insertable, type Kysely, type Selectable, sql } from "kysely";
import type { Database, SessionTable } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export type SessionRow = Omit<Selectable<SessionTable>, "user_id" | "revoked_at">;
type NewSession = Pick<Insertable<SessionTable>, "id" | "user_id" | "remember_me" | "user_agent" | "ip">;

/** More than anyone has devices. The oldest go first. */
const SESSIONS_MAX = 200;

/** Starts a session that lasts `lifetimeMs`, and drops the user's expired ones and those above the limit. */
export async function insertSession(
  db: Kysely<Database>,
  session: NewSession,
  lifetimeMs: number,
): Promise<{ readonly created_at: Date; readonly expires_at: Date }> {
  const newest = db
    .selectFrom("session")
    .select("id")
    .where("user_id", "=", session.user_id)
    .where("expires_at", ">", databaseNow)
    .orderBy("created_at", "desc")
    .limit(SESSIONS_MAX - 1);
  return await db
    .with("dropped", (query) =>
      query.deleteFrom("session").where("user_id", "=", session.user_id).where("id", "not in", newest),
    )
    .insertInto("session")
    .values({ ...session, expires_at: databaseNowPlus(lifetimeMs) })
    .returning(["created_at", "expires_at"])
    .executeTakeFirstOrThrow();
}

/** Those that are neither revoked nor expired, the one used last first. */
export async function listLiveSessions(db: Kysely<Database>, userId: string): Promise<SessionRow[]> {
  return await db
    .selectFrom("session")
    .select(["id", "created_at", "expires_at", "last_used_at", "remember_me", "user_agent", "ip"])
    .where("user_id", "=", userId)
    .where("revoked_at", "is", null)
    .where("expires_at", ">", databaseNow)
    .orderBy("last_used_at", "desc")
    .orderBy("id", "desc")
    .limit(SESSIONS_MAX)
    .execute();
}

/** Whose it was; undefined when there is no such live session, or it is not `userId`'s. */
export async function revokeSession(
  db: Kysely<Database>,
  id: string,
  userId: string | null = null,
): Promise<string | undefined> {
  let query = db
    .updateTable("session")
    .set({ revoked_at: databaseNow })
    .where("id", "=", id)
    .where("revoked_at", "is", null)
    .where("expires_at", ">", databaseNow);
  if (userId !== null) query = query.where("user_id", "=", userId);
  return (await query.returning("user_id").executeTakeFirst())?.user_id;
}

/** All of the user's but one. Returns how many. */
export async function revokeOtherSessions(
  db: Kysely<Database>,
  userId: string,
  keptId: string | null,
): Promise<number> {
  let query = db
    .updateTable("session")
    .set({ revoked_at: databaseNow })
    .where("user_id", "=", userId)
    .where("revoked_at", "is", null)
    .where("expires_at", ">", databaseNow);
  if (keptId !== null) query = query.where("id", "<>", keptId);
  return Number((await query.executeTakeFirst()).numUpdatedRows);
}

/** Whether the user is active and what they came with, a session or an API key, is neither revoked nor expired. */
export async function isLiveCredential(
  db: Kysely<Database>,
  {
    userId,
    sessionId,
    keyId,
  }: { readonly userId: string; readonly sessionId: string | null; readonly keyId: string | null },
): Promise<boolean> {
  const { rows } = await sql`
    select from user_account u where u.id = ${userId} and u.active
      and (${sessionId}::uuid is null or exists (
        select from session where id = ${sessionId}::uuid and revoked_at is null and expires_at > ${databaseNow}))
      and (${keyId}::uuid is null or exists (
        select from api_key where id = ${keyId}::uuid and revoked_at is null
          and (expires_at is null or expires_at > ${databaseNow})))`.execute(db);
  return rows.length > 0;
}

/** What a key lets its owner do at this moment, and from where. */
export async function findKeyLimits(db: Kysely<Database>, keyId: string) {
  return await db
    .selectFrom("api_key")
    .select(["permissions", "organization_id as organizationId", "cache_id as cacheId", "allowed_ips"])
    .where("id", "=", keyId)
    .executeTakeFirst();
}
