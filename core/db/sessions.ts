import { type Insertable, type Kysely, type Selectable, sql } from "kysely";
import type { NewAuditEvent } from "./audit-events.ts";
import type { Database, SessionTable } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export type SessionRow = Omit<Selectable<SessionTable>, "user_id" | "revoked_at">;

export interface NewSignIn {
  readonly session: Pick<Insertable<SessionTable>, "id" | "user_id" | "remember_me" | "user_agent" | "ip">;
  readonly lifetimeMs: number;
  /** What tells of it; its user is the session's. */
  readonly audit: NewAuditEvent;
  /** The password it was proved by, as it was read; null: it was proved in another way. */
  readonly passwordHash: string | null;
}

/** More than anyone has devices. The oldest go first. */
const SESSIONS_MAX = 200;

/**
 * Starts a session with its record in the audit log, notes when the user signed in last, and drops the user's expired
 * sessions and those above the limit, all in one statement. Undefined, and nothing is done, when the user is gone or
 * has another password by now.
 */
export async function insertSignIn(
  db: Kysely<Database>,
  { session, lifetimeMs, audit, passwordHash }: NewSignIn,
): Promise<{ readonly created_at: Date; readonly expires_at: Date } | undefined> {
  const newest = db
    .selectFrom("session")
    .select("id")
    .where("user_id", "=", session.user_id)
    .where("expires_at", ">", databaseNow)
    .orderBy("created_at", "desc")
    .limit(SESSIONS_MAX - 1);
  const { rows } = await sql<{ created_at: Date; expires_at: Date }>`
    with person as (
      update user_account set last_login_at = ${databaseNow}
      where id = ${session.user_id} and (${passwordHash}::text is null or password_hash = ${passwordHash})
      returning id, username
    ), dropped as (
      delete from session using person where session.user_id = person.id and session.id not in (${newest})
    ), told as (
      insert into audit_event (id, event, user_id, username, ip, user_agent, metadata)
      select ${audit.id}::uuid, ${audit.event}, id, username, ${audit.ip}, ${audit.user_agent},
        ${JSON.stringify(audit.metadata)}::jsonb from person
    )
    insert into session (id, user_id, remember_me, user_agent, ip, expires_at)
    select ${session.id}::uuid, id, ${session.remember_me}::boolean, ${session.user_agent}, ${session.ip},
      ${databaseNowPlus(lifetimeMs)} from person
    returning created_at, expires_at`.execute(db);
  return rows[0];
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
