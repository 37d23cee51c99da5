import type { Kysely } from "kysely";
import type { SubscriptionMode } from "../domain/subscription.ts";
import type { CacheRow, Database } from "./schema.ts";

/** A named cache as its readers may have it: without its secret key. */
export type CacheView = Omit<CacheRow, "secret_key" | "kind" | "organization_id" | "name"> & { readonly name: string };

export interface CacheWithRole extends CacheView {
  readonly role_permissions: number | null;
  readonly role_name: string | null;
}

export const CACHE_COLUMNS = [
  "cache.id",
  "cache.display_name",
  "cache.description",
  "cache.active",
  "cache.public",
  "cache.priority",
  "cache.local_priority",
  "cache.max_storage_gb",
  "cache.public_key",
  "cache.managed",
  "cache.created_by",
  "cache.created_at",
] as const;

/** Named caches only: an organization's internal store has no name and is found by nobody here. */
export async function findCacheWithRole(
  db: Kysely<Database>,
  name: string,
  userId: string | null,
): Promise<CacheWithRole | undefined> {
  return await db
    .selectFrom("cache")
    .leftJoin("cache_member", (join) => join.onRef("cache_member.cache_id", "=", "cache.id").on("user_id", "=", userId))
    .leftJoin("cache_role", "cache_role.id", "cache_member.role_id")
    .select(CACHE_COLUMNS)
    .select((eb) => eb.ref("cache.name").$notNull().as("name"))
    .select(["cache_role.permissions as role_permissions", "cache_role.name as role_name"])
    .where("cache.kind", "=", 0)
    .where("cache.name", "=", name)
    .executeTakeFirst();
}

/** The subscriptions to a cache of the organizations that the user is a member of. */
export async function listSubscriptionsOfMember(
  db: Kysely<Database>,
  cacheId: string,
  userId: string,
): Promise<{ readonly organizationId: string; readonly mode: SubscriptionMode }[]> {
  return await db
    .selectFrom("organization_cache")
    .innerJoin("organization_member", "organization_member.organization_id", "organization_cache.organization_id")
    .select((eb) => [
      "organization_cache.organization_id as organizationId",
      eb.ref("organization_cache.mode").$castTo<SubscriptionMode>().as("mode"),
    ])
    .where("organization_cache.cache_id", "=", cacheId)
    .where("organization_member.user_id", "=", userId)
    .execute();
}
