import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import type { CacheKeyRow } from "./tables/cache-key.ts";
import { databaseNow } from "./time.ts";

export const KeyState = { Signing: 0, Retiring: 1, Retired: 2 } as const;

/** What signs, sealed. */
export type SealedKey = Pick<CacheKeyRow, "id" | "secret_key">;

/** The keys of a cache. */
export interface KeyRing {
  /** All of them sign everything. */
  readonly keys: readonly SealedKey[];
  /** Of these and of those that do not sign any more: what others give under them is not theirs. */
  readonly keyNames: readonly string[];
}

export type SigningCache = { readonly id: string } & KeyRing;

/**
 * The caches with their keys. Within a transaction that has locked the caches (`for key share`) no key comes or goes
 * before it ends, provided that they were locked by an earlier statement than this one.
 */
export async function withKeys<T extends { readonly id: string }>(
  db: Kysely<Database>,
  caches: readonly T[],
): Promise<(T & KeyRing)[]> {
  if (caches.length === 0) return [];
  const rows = await db
    .selectFrom("cache_key")
    .select(["id", "cache_id", "name", "secret_key", "state"])
    .where(sql<boolean>`cache_id = any(${caches.map(({ id }) => id)}::uuid[])`)
    .orderBy("created_at")
    .orderBy("id")
    .execute();
  const ringOf = Map.groupBy(rows, (row) => row.cache_id);
  return caches.map((cache) => {
    const ring = ringOf.get(cache.id) ?? [];
    const keys = ring.filter(({ state }) => state === KeyState.Signing);
    return {
      ...cache,
      keys: keys.map(({ id, secret_key }) => ({ id, secret_key })),
      keyNames: ring.map(({ name }) => name),
    };
  });
}

/** The public keys that a row of `cache` signs with, the oldest first, with spaces between. */
export const publicKeysOfCache: RawBuilder<string> = sql<string>`coalesce((
  select string_agg(k.public_key, ' ' order by k.created_at, k.id)
  from cache_key k where k.cache_id = cache.id and k.state = 0), '')`;

/** Waits for every commit that signs for the cache; those that come later see what is changed. False: it is gone. */
export async function lockKeysOfCache(trx: Transaction<Database>, cacheId: string): Promise<boolean> {
  const row = await trx.selectFrom("cache").select("id").where("id", "=", cacheId).forUpdate().executeTakeFirst();
  return row !== undefined;
}

export type ListedKey = Omit<CacheKeyRow, "secret_key">;

/** The oldest first. */
export async function listKeys(db: Kysely<Database>, cacheId: string): Promise<ListedKey[]> {
  return await db
    .selectFrom("cache_key")
    .select(["id", "cache_id", "public_key", "name", "state", "walked_to", "created_at", "retired_at"])
    .where("cache_id", "=", cacheId)
    .orderBy("created_at")
    .orderBy("id")
    .execute();
}

/** How many paths of the cache are still to be walked for a key. */
export async function countUnwalked(db: Kysely<Database>, { cache_id, walked_to }: ListedKey): Promise<number> {
  if (walked_to === null) return 0;
  const { count } = await db
    .selectFrom("cache_path")
    .select(sql<number>`count(*)::int`.as("count"))
    .where("cache_id", "=", cache_id)
    .where("hash", ">", walked_to)
    .executeTakeFirstOrThrow();
  return count;
}

/** The newest key that signs. */
export async function findNewestKey(db: Kysely<Database>, cacheId: string): Promise<SealedKey | undefined> {
  return await db
    .selectFrom("cache_key")
    .select(["id", "secret_key"])
    .where("cache_id", "=", cacheId)
    .where("state", "=", KeyState.Signing)
    .orderBy("created_at", "desc")
    .orderBy("id", "desc")
    .executeTakeFirst();
}

/** Of these names, the ones that keys of any cache bear. */
export async function listTakenNames(db: Kysely<Database>, names: readonly string[]): Promise<string[]> {
  const rows = await db
    .selectFrom("cache_key")
    .select("name")
    .distinct()
    .where(sql<boolean>`name = any(${names}::text[])`)
    .execute();
  return rows.map(({ name }) => name);
}

/** A key that signs what comes from now on, and is to sign what is there. Fails on `cache_key_name_key`. */
export async function insertKey(
  trx: Transaction<Database>,
  key: Pick<CacheKeyRow, "id" | "cache_id" | "public_key" | "secret_key">,
): Promise<void> {
  await trx
    .insertInto("cache_key")
    .values({ ...key, walked_to: "" })
    .execute();
}

/** The key signs, or its signatures are taken out, from now on and from the first path on. */
export async function setKeyState(
  trx: Transaction<Database>,
  id: string,
  state: typeof KeyState.Signing | typeof KeyState.Retiring,
): Promise<void> {
  const retired_at = state === KeyState.Signing ? null : databaseNow;
  await trx.updateTable("cache_key").set({ state, walked_to: "", retired_at }).where("id", "=", id).execute();
}

/** False when the key has signatures left. */
export async function deleteRetiredKey(trx: Transaction<Database>, id: string): Promise<boolean> {
  const { numDeletedRows } = await trx
    .deleteFrom("cache_key")
    .where("id", "=", id)
    .where("state", "=", KeyState.Retired)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}
