import type { Actor } from "#core/domain/actor.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import type { ServiceSettings } from "#core/services/deps.ts";
import { createKey, revokeKey } from "#core/services/keys.ts";
import { makeSession } from "#test/support/session.ts";
import { type CacheBench, newId } from "./support.ts";

export const JWT_SECRET = utf8("s".repeat(48));

/** A user with a session, and keys that narrow what the user may. */
export interface Person {
  readonly id: string;
  readonly session: string;
  key(options?: KeyOptions): Promise<string>;
}

export interface KeyOptions {
  readonly permissions?: readonly string[];
  readonly organization?: string;
  readonly cache?: string;
  readonly allowedIps?: readonly string[];
  readonly ended?: "expired" | "revoked";
}

export async function makePerson(
  { deps: { db } }: CacheBench,
  username: string,
  { superuser = false } = {},
): Promise<Person> {
  const id = newId();
  const account = { id, username, name: username, email: `${username}@example.org`, superuser };
  await db.insertInto("user_account").values(account).execute();
  const settings = { jwtSecret: JWT_SECRET } as unknown as ServiceSettings;
  const deps = { db, clock: systemClock, random: systemRandom, settings };
  const session = await makeSession(deps, id);
  const actor: Actor = { user: { id, username, superuser }, key: null, sessionId: newId() };
  return {
    id,
    session,
    async key({ permissions = ["viewOrg"], organization, cache, allowedIps = [], ended } = {}) {
      const name = `key-${newId()}`;
      const pin = { ...(organization && { organization }), ...(cache && { cache }) };
      const text = await createKey(deps, actor, { name, permissions, allowed_ips: allowedIps, ...pin });
      const row = await db.selectFrom("api_key").select("id").where("name", "=", name).executeTakeFirstOrThrow();
      if (ended === "revoked") await revokeKey(deps, actor, row.id);
      if (ended === "expired") {
        await db
          .updateTable("api_key")
          .set({ expires_at: new Date(1) })
          .where("id", "=", row.id)
          .execute();
      }
      return text;
    },
  };
}

export async function addOrganization(
  { deps: { db } }: CacheBench,
  name: string,
  {
    public: isPublic = false,
    members = {},
  }: { readonly public?: boolean; readonly members?: Record<string, string> } = {},
): Promise<string> {
  const id = newId();
  const texts = { display_name: name, description: "", ssh_public_key: "" };
  const keys = { ssh_secret_key: new Uint8Array(1) };
  await db
    .insertInto("organization")
    .values({ id, name, public: isPublic, ...texts, ...keys })
    .execute();
  for (const [user_id, role_id] of Object.entries(members)) {
    await db.insertInto("organization_member").values({ organization_id: id, user_id, role_id }).execute();
  }
  return id;
}
