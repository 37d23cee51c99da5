import type { Kysely } from "kysely";
import type { ActorUser } from "../domain/actor.ts";
import type { ApiKeyRow, Database } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

/** Finer times of use are not kept, so that a busy client does not write a row with every request. */
const LAST_USED_STEP_MS = 60_000;

export interface CredentialUser extends ActorUser {
  readonly active: boolean;
}

export type LiveApiKey = Pick<ApiKeyRow, "id" | "permissions" | "organization_id" | "cache_id" | "allowed_ips"> & {
  readonly user: CredentialUser;
  /** The noted time of use is old enough to be noted anew. */
  readonly stale: boolean;
};

/** The owner of a session that is neither revoked nor expired. Notes the use. */
export async function findUserOfSession(
  db: Kysely<Database>,
  session: { readonly id: string; readonly userId: string },
): Promise<CredentialUser | undefined> {
  const row = await db
    .selectFrom("session")
    .innerJoin("user_account", "user_account.id", "session.user_id")
    .select(["user_account.id", "username", "superuser", "active"])
    .select((eb) => eb("session.last_used_at", "<", databaseNowPlus(-LAST_USED_STEP_MS)).as("stale"))
    .where("session.id", "=", session.id)
    .where("session.user_id", "=", session.userId)
    .where("session.revoked_at", "is", null)
    .where("session.expires_at", ">", databaseNow)
    .executeTakeFirst();
  if (row?.stale) {
    await db.updateTable("session").set({ last_used_at: databaseNow }).where("id", "=", session.id).execute();
  }
  return row;
}

/** A key that is neither revoked nor expired, with its owner. */
export async function findLiveApiKey(db: Kysely<Database>, tokenHash: Uint8Array): Promise<LiveApiKey | undefined> {
  const row = await db
    .selectFrom("api_key")
    .innerJoin("user_account", "user_account.id", "api_key.owner_id")
    .select(["api_key.id", "permissions", "organization_id", "cache_id", "allowed_ips"])
    .select(["user_account.id as user_id", "username", "superuser", "active"])
    .select((eb) =>
      eb
        .or([eb("last_used_at", "is", null), eb("last_used_at", "<", databaseNowPlus(-LAST_USED_STEP_MS))])
        .$castTo<boolean>()
        .as("stale"),
    )
    .where("token_hash", "=", tokenHash)
    .where("api_key.revoked_at", "is", null)
    .where((eb) => eb.or([eb("api_key.expires_at", "is", null), eb("api_key.expires_at", ">", databaseNow)]))
    .executeTakeFirst();
  if (!row) return undefined;
  const { user_id: id, username, superuser, active, ...key } = row;
  return { ...key, user: { id, username, superuser, active } };
}

/** Once a step, however many requests saw at the same moment that it is time. */
export async function noteApiKeyUse(db: Kysely<Database>, id: string): Promise<void> {
  await db
    .updateTable("api_key")
    .set({ last_used_at: databaseNow })
    .where("id", "=", id)
    .where((eb) =>
      eb.or([eb("last_used_at", "is", null), eb("last_used_at", "<", databaseNowPlus(-LAST_USED_STEP_MS))]),
    )
    .execute();
}

/** The user for whom a token was signed that stands in no table. */
export async function findUserOfToken(db: Kysely<Database>, userId: string): Promise<CredentialUser | undefined> {
  return await db
    .selectFrom("user_account")
    .select(["id", "username", "superuser", "active"])
    .where("id", "=", userId)
    .executeTakeFirst();
}
