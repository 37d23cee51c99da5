import type { Insertable, Kysely } from "kysely";
import type { Database, OrganizationCacheTable } from "./schema.ts";

export interface SubscribedCache {
  readonly id: string;
  readonly name: string;
  readonly mode: number;
}

export async function listSubscriptions(db: Kysely<Database>, organizationId: string): Promise<SubscribedCache[]> {
  return await db
    .selectFrom("organization_cache")
    .innerJoin("cache", "cache.id", "organization_cache.cache_id")
    .select((eb) => ["cache.id", eb.ref("cache.name").$notNull().as("name"), "organization_cache.mode"])
    .where("organization_cache.organization_id", "=", organizationId)
    .orderBy("cache.name")
    .execute();
}

/** False when the organization is subscribed already. */
export async function insertSubscription(
  db: Kysely<Database>,
  subscription: Insertable<OrganizationCacheTable>,
): Promise<boolean> {
  const row = await db
    .insertInto("organization_cache")
    .values(subscription)
    .onConflict((conflict) => conflict.constraint("organization_cache_key").doNothing())
    .returning("id")
    .executeTakeFirst();
  return row !== undefined;
}

/** False when the organization was not subscribed. */
export async function deleteSubscription(
  db: Kysely<Database>,
  organizationId: string,
  cacheId: string,
): Promise<boolean> {
  const row = await db
    .deleteFrom("organization_cache")
    .where("organization_id", "=", organizationId)
    .where("cache_id", "=", cacheId)
    .returning("id")
    .executeTakeFirst();
  return row !== undefined;
}
