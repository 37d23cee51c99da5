import type { Insertable, Kysely } from "kysely";
import type { Database, SessionTable } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

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
  await db.deleteFrom("session").where("user_id", "=", session.user_id).where("id", "not in", newest).execute();
  return await db
    .insertInto("session")
    .values({ ...session, expires_at: databaseNowPlus(lifetimeMs) })
    .returning(["created_at", "expires_at"])
    .executeTakeFirstOrThrow();
}

export async function revokeSession(db: Kysely<Database>, id: string): Promise<void> {
  await db
    .updateTable("session")
    .set({ revoked_at: databaseNow })
    .where("id", "=", id)
    .where("revoked_at", "is", null)
    .execute();
}
