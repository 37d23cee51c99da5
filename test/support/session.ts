import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import type { Bytes } from "#core/lib/bytes.ts";
import { DAY } from "#core/lib/clock.ts";
import { signSessionToken } from "#core/services/session-token.ts";
import { newId } from "./rows.ts";

/** The token of a session that lasts a day: of somebody who has not just signed in. */
export async function makeSession(
  { db, settings }: { readonly db: Kysely<Database>; readonly settings: { readonly jwtSecret: Bytes } },
  userId: string,
  userAgent: string | null = null,
): Promise<string> {
  const id = newId();
  const issuedAtMs = Date.now();
  const expiresAtMs = issuedAtMs + DAY;
  const row = { id, user_id: userId, remember_me: false, user_agent: userAgent, ip: "127.0.0.1" };
  await db
    .insertInto("session")
    .values({ ...row, expires_at: new Date(expiresAtMs) })
    .execute();
  return await signSessionToken(settings.jwtSecret, { sessionId: id, userId }, { issuedAtMs, expiresAtMs });
}
