import {
  type Insertable,
  type Kysely,
  type RawBuilder,
  type Selectable,
  sql,
  type Transaction,
  type Updateable,
} from "kysely";
import type { ApiKeyTable, Database } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export type ApiKeyWithPin = Omit<Selectable<ApiKeyTable>, "token_hash" | "owner_id"> & {
  readonly organization_name: string | null;
  readonly cache_name: string | null;
};
export type NewApiKey = Omit<Insertable<ApiKeyTable>, "expires_at">;
export type ApiKeyChanges = Pick<
  Updateable<ApiKeyTable>,
  "name" | "permissions" | "organization_id" | "allowed_ips"
> & {
  expires_at?: RawBuilder<Date> | null;
};

export async function listApiKeys(db: Kysely<Database>, ownerId: string): Promise<ApiKeyWithPin[]> {
  return await keysWithPin(db, ownerId).orderBy("api_key.created_at").orderBy("api_key.id").execute();
}

export async function findApiKey(
  db: Kysely<Database>,
  ownerId: string,
  by: { readonly id: string } | { readonly name: string },
): Promise<ApiKeyWithPin | undefined> {
  const keys = keysWithPin(db, ownerId);
  return await ("id" in by
    ? keys.where("api_key.id", "=", by.id)
    : keys.where("api_key.name", "=", by.name)
  ).executeTakeFirst();
}

/** Two changes of one user's keys never overlap. */
export async function lockApiKeysOf(trx: Transaction<Database>, ownerId: string): Promise<void> {
  await trx.selectFrom("user_account").select("id").where("id", "=", ownerId).forNoKeyUpdate().execute();
}

export async function countApiKeys(db: Kysely<Database>, ownerId: string): Promise<number> {
  const { total } = await db
    .selectFrom("api_key")
    .select(sql<number>`count(*)::int`.as("total"))
    .where("owner_id", "=", ownerId)
    .executeTakeFirstOrThrow();
  return total;
}

/** Fails on `api_key_name_key`. */
export async function insertApiKey(db: Kysely<Database>, key: NewApiKey, lifetimeMs: number | null): Promise<void> {
  const expires_at = keyExpiry(lifetimeMs);
  await db
    .insertInto("api_key")
    .values({ ...key, expires_at })
    .execute();
}

/** The end of a lifetime that begins now; null is none. */
export function keyExpiry(lifetimeMs: number | null): RawBuilder<Date> | null {
  return lifetimeMs === null ? null : databaseNowPlus(lifetimeMs);
}

/** Fails on `api_key_name_key`. */
export async function updateApiKey(db: Kysely<Database>, id: string, changes: ApiKeyChanges): Promise<void> {
  if (Object.keys(changes).length === 0) return;
  await db.updateTable("api_key").set(changes).where("id", "=", id).execute();
}

export async function revokeApiKey(db: Kysely<Database>, id: string): Promise<void> {
  await db
    .updateTable("api_key")
    .set({ revoked_at: databaseNow })
    .where("id", "=", id)
    .where("revoked_at", "is", null)
    .execute();
}

export async function deleteApiKey(db: Kysely<Database>, id: string): Promise<void> {
  await db.deleteFrom("api_key").where("id", "=", id).execute();
}

function keysWithPin(db: Kysely<Database>, ownerId: string) {
  return db
    .selectFrom("api_key")
    .leftJoin("organization", "organization.id", "api_key.organization_id")
    .leftJoin("cache", "cache.id", "api_key.cache_id")
    .select([
      "api_key.id",
      "api_key.name",
      "api_key.permissions",
      "api_key.organization_id",
      "api_key.cache_id",
      "api_key.allowed_ips",
      "api_key.managed",
      "api_key.created_at",
      "api_key.last_used_at",
      "api_key.expires_at",
      "api_key.revoked_at",
      "organization.name as organization_name",
      "cache.name as cache_name",
    ])
    .where("api_key.owner_id", "=", ownerId);
}
