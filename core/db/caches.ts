import { type Insertable, type Kysely, sql, type Transaction, type Updateable } from "kysely";
import type { SubscriptionMode } from "../domain/subscription.ts";
import type { CacheRow, CacheTable, Database } from "./schema.ts";

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
  "cache.pull_through",
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
    .select((eb) => eb.ref("cache.name").$notNull().as("name"))
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
    .select((eb) => eb.ref("cache.name").$notNull().as("name"))
    .where("kind", "=", 0)
    .where("public", "=", true)
    .orderBy("name")
    .limit(limit)
    .execute();
}

export async function cacheExists(db: Kysely<Database>, name: string): Promise<boolean> {
  return !!(await db.selectFrom("cache").select("id").where("name", "=", name).executeTakeFirst());
}

/** Fails on `cache_name_key`. */
export async function insertCache(trx: Transaction<Database>, cache: Insertable<CacheTable>): Promise<void> {
  await trx.insertInto("cache").values(cache).execute();
}

export async function insertCacheMember(
  trx: Transaction<Database>,
  member: { readonly cache_id: string; readonly user_id: string; readonly role_id: string },
): Promise<void> {
  await trx.insertInto("cache_member").values(member).execute();
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
    .where((eb) =>
      organizationId !== null
        ? eb("cache.id", "in", subscribed)
        : eb.or([eb("cache_member.user_id", "is not", null), eb("cache.id", "in", subscribed)]),
    );
}
