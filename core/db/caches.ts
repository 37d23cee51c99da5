import { type Insertable, type Kysely, sql, type Updateable } from "kysely";
import type { SubscriptionMode } from "../domain/subscription.ts";
import { publicKeysOfCache } from "./cache-keys.ts";
import type { CacheRow, CacheTable, Database } from "./schema.ts";
import type { CacheKeyRow } from "./tables/cache-key.ts";

/** A named cache as its readers may have it. */
export type CacheView = Omit<CacheRow, "kind" | "organization_id" | "name"> & {
  readonly name: string;
  /** What it signs with, with spaces between. */
  readonly public_key: string;
};

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
  "cache.pull_through",
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
    .select((eb) => [eb.ref("cache.name").$notNull().as("name"), publicKeysOfCache.as("public_key")])
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

export type CacheChanges = Pick<
  Updateable<CacheTable>,
  | "name"
  | "display_name"
  | "description"
  | "active"
  | "public"
  | "priority"
  | "local_priority"
  | "max_storage_gb"
  | "pull_through"
>;

/** Which caches are a user's own: as far as a key's pin reaches, when there is one. */
export interface CacheScope {
  readonly userId: string;
  /** Only what this organization subscribes to. */
  readonly organizationId: string | null;
  /** Only this cache. */
  readonly cacheId: string | null;
}

interface Window {
  readonly limit: number;
  readonly offset: number;
}

/** Those that the user is a member of, or that an organization of theirs subscribes to. */
export async function listCachesOfMember(
  db: Kysely<Database>,
  scope: CacheScope,
  { limit, offset }: Window,
): Promise<CacheWithRole[]> {
  return await cachesOf(db, scope)
    .select(CACHE_COLUMNS)
    .select((eb) => [eb.ref("cache.name").$notNull().as("name"), publicKeysOfCache.as("public_key")])
    .select(["cache_role.permissions as role_permissions", "cache_role.name as role_name"])
    .orderBy("cache.name")
    .limit(limit)
    .offset(offset)
    .execute();
}

export async function countCachesOfMember(db: Kysely<Database>, scope: CacheScope): Promise<number> {
  const { total } = await cachesOf(db, scope).select(sql<number>`count(*)::int`.as("total")).executeTakeFirstOrThrow();
  return total;
}

export async function listPublicCaches(db: Kysely<Database>, limit: number): Promise<CacheView[]> {
  return await db
    .selectFrom("cache")
    .select(CACHE_COLUMNS)
    .select((eb) => [eb.ref("cache.name").$notNull().as("name"), publicKeysOfCache.as("public_key")])
    .where("kind", "=", 0)
    .where("public", "=", sql.lit(true))
    .orderBy("name")
    .limit(limit)
    .execute();
}

export async function cacheExists(db: Kysely<Database>, name: string): Promise<boolean> {
  return !!(await db.selectFrom("cache").select("id").where("name", "=", name).executeTakeFirst());
}

export type NewCache = Insertable<CacheTable> & Pick<CacheKeyRow, "public_key" | "secret_key">;

/** With its first key, which has its id. Fails on `cache_name_key`. */
export async function insertCache(db: Kysely<Database>, { public_key, secret_key, ...cache }: NewCache): Promise<void> {
  await db
    .with("made", (made) => made.insertInto("cache").values(cache).returning("id"))
    .insertInto("cache_key")
    .columns(["id", "cache_id", "public_key", "secret_key"])
    .expression((select) =>
      select
        .selectFrom("made")
        .select(["id", "id as cache_id"])
        .select((eb) => [eb.val(public_key).as("public_key"), eb.val(secret_key).as("secret_key")]),
    )
    .execute();
}

/** Fails on `cache_name_key`. */
export async function updateCache(db: Kysely<Database>, id: string, changes: CacheChanges): Promise<void> {
  if (Object.keys(changes).length === 0) return;
  await db.updateTable("cache").set(changes).where("id", "=", id).execute();
}

/** With its paths. Their NARs stay until retention finds that nothing names them. */
export async function deleteCache(db: Kysely<Database>, id: string): Promise<void> {
  await db.deleteFrom("cache").where("id", "=", id).execute();
}

function cachesOf(db: Kysely<Database>, { userId, organizationId, cacheId }: CacheScope) {
  const own = db.selectFrom("cache_member").select("cache_member.cache_id").where("cache_member.user_id", "=", userId);
  const subscribed = db
    .selectFrom("organization_cache")
    .innerJoin("organization_member", "organization_member.organization_id", "organization_cache.organization_id")
    .select("organization_cache.cache_id")
    .where("organization_member.user_id", "=", userId)
    .$if(organizationId !== null, (query) =>
      query.where("organization_cache.organization_id", "=", organizationId as string),
    );
  return db
    .selectFrom("cache")
    .leftJoin("cache_member", (join) => join.onRef("cache_member.cache_id", "=", "cache.id").on("user_id", "=", userId))
    .leftJoin("cache_role", "cache_role.id", "cache_member.role_id")
    .where("cache.kind", "=", 0)
    .$if(cacheId !== null, (query) => query.where("cache.id", "=", cacheId as string))
    .where("cache.id", "in", organizationId === null ? own.union(subscribed) : subscribed);
}
