import { CACHE_PERMISSIONS, ORGANIZATION_PERMISSIONS } from "#core/domain/permissions.ts";
import { createKey } from "#core/services/keys.ts";
import type { TestApp, TestUser } from "#test/handlers/support.ts";

/** Who asks in the table of access. */
export const ACTORS = [
  "anonymous",
  "stranger",
  "view",
  "write",
  "admin",
  "custom",
  "orgKey",
  "cacheKey",
  "expired",
  "elsewhere",
  "superuser",
] as const;
export type ActorName = (typeof ACTORS)[number];

export type People = Readonly<Record<"view" | "write" | "admin" | "custom" | "stranger" | "superuser", TestUser>>;

export async function makePeople(app: TestApp): Promise<People> {
  return {
    admin: await app.user("ada"),
    write: await app.user("walt"),
    view: await app.user("vera"),
    custom: await app.user("carl"),
    stranger: await app.user("stan"),
    superuser: await app.user("root-user", { superuser: true }),
  };
}

export async function makeTokens(app: TestApp, people: People): Promise<Readonly<Record<ActorName, string | null>>> {
  const { db, deps } = app;
  const key = async (name: string, more: object): Promise<string> => {
    const everything = { permissions: [...ORGANIZATION_PERMISSIONS] };
    return await createKey(deps, people.admin.actor, { name, allowed_ips: [], ...everything, ...more });
  };
  const tokens = {
    anonymous: null,
    stranger: people.stranger.token,
    view: people.view.token,
    write: people.write.token,
    admin: people.admin.token,
    custom: people.custom.token,
    orgKey: await key("pinned", { organization: "acme" }),
    cacheKey: await key("cache", { cache: "depot", permissions: [...CACHE_PERMISSIONS] }),
    expired: await key("expired", {}),
    elsewhere: await key("elsewhere", { allowed_ips: ["192.0.2.0/24"] }),
    superuser: people.superuser.token,
  };
  await db
    .updateTable("api_key")
    .set({ expires_at: new Date(1) })
    .where("name", "=", "expired")
    .execute();
  return tokens;
}
