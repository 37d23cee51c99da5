import { type Expression, type Kysely, type SqlBool, sql, type Transaction } from "kysely";
import { toHex } from "../lib/bytes.ts";
import { type SigningCache, withKeys } from "./cache-keys.ts";
import type { CachePathRow, CacheRow, Database, NarRow } from "./schema.ts";
import { databaseNow } from "./time.ts";
import { commitsLater } from "./transaction.ts";

/** What the cache surface decides with. */
export type ServedCache = Pick<
  CacheRow,
  "id" | "name" | "active" | "public" | "priority" | "local_priority" | "created_by"
>;

/** A path with the NAR it is served from. */
export type PathWithNar = Pick<
  CachePathRow,
  "cache_id" | "hash" | "store_path" | "nar_hash" | "references" | "deriver" | "ca" | "signatures"
> &
  Pick<NarRow, "nar_size" | "file_hash" | "file_size" | "compression" | "object_key">;

export type NewCachePath = Pick<
  CachePathRow,
  "cache_id" | "hash" | "store_path" | "nar_hash" | "references" | "deriver" | "ca" | "signatures"
>;

const PATH_COLUMNS = [
  "cache_path.cache_id",
  "cache_path.hash",
  "cache_path.store_path",
  "cache_path.nar_hash",
  "cache_path.references",
  "cache_path.deriver",
  "cache_path.ca",
  "cache_path.signatures",
] as const;
const NAR_COLUMNS = ["nar.nar_size", "nar.file_hash", "nar.file_size", "nar.compression", "nar.object_key"] as const;

/** A cache that clients know by name; inactive ones too, internal stores never. */
export async function findServedCache(db: Kysely<Database>, name: string): Promise<ServedCache | undefined> {
  return await db
    .selectFrom("cache")
    .select(["id", "name", "active", "public", "priority", "local_priority", "created_by"])
    .where("name", "=", name)
    .where("kind", "=", 0)
    .executeTakeFirst();
}

/** A path of one cache, when its NAR is sound and its references can be had. */
export async function findPathWithNar(
  db: Kysely<Database>,
  { cacheId, hash }: { readonly cacheId: string; readonly hash: string },
): Promise<PathWithNar | undefined> {
  return await db
    .selectFrom("cache_path")
    .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
    .select([...PATH_COLUMNS, ...NAR_COLUMNS])
    .where("cache_path.cache_id", "=", cacheId)
    .where("cache_path.hash", "=", hash)
    .where("nar.damaged_at", "is", null)
    .where("cache_path.incomplete_at", "is", null)
    .executeTakeFirst();
}

/** Subscription modes: 0 read and write, 1 read only, 2 write only. */
export const READABLE_MODES: readonly number[] = [0, 1];
export const WRITABLE_MODES: readonly number[] = [0, 2];

/** Active caches that the organization writes to, the oldest first. */
export async function listWritableCaches(db: Kysely<Database>, organizationId: string): Promise<string[]> {
  const rows = await db
    .selectFrom("organization_cache")
    .innerJoin("cache", "cache.id", "organization_cache.cache_id")
    .select("cache.id")
    .where("organization_cache.organization_id", "=", organizationId)
    .where("organization_cache.mode", "in", [...WRITABLE_MODES])
    .where("cache.kind", "=", 0)
    .where("cache.active", "=", true)
    .orderBy("cache.id")
    .execute();
  return rows.map((row) => row.id);
}

/** The organization's internal store (first, when there is one) and the active caches that it reads. */
export async function listReadableStores(
  db: Kysely<Database>,
  organizationId: string,
): Promise<{ id: string; kind: number }[]> {
  return await db
    .selectFrom("cache")
    .leftJoin("organization_cache", (join) =>
      join
        .onRef("organization_cache.cache_id", "=", "cache.id")
        .on("organization_cache.organization_id", "=", organizationId),
    )
    .select(["cache.id", "cache.kind"])
    .where("cache.id", "in", storesOf(db, organizationId))
    .where("cache.active", "=", true)
    .where((where) =>
      where.or([
        where.and([where("cache.kind", "=", 1), where("cache.organization_id", "=", organizationId)]),
        where.and([where("cache.kind", "=", 0), where("organization_cache.mode", "in", [...READABLE_MODES])]),
      ]),
    )
    .orderBy("cache.kind", "desc")
    .orderBy("cache.id")
    .execute();
}

/** The organization's internal store and all that it subscribes to. */
export function storesOf(db: Kysely<Database>, organizationId: string) {
  return db
    .selectFrom("organization_cache")
    .select("cache_id as id")
    .where("organization_id", "=", organizationId)
    .unionAll(db.selectFrom("cache").select("id").where("organization_id", "=", organizationId));
}

/** Which of `hashes` these stores hold with a sound NAR. The path is named too: the caller compares the whole of it. */
export async function listPresentPaths(
  db: Kysely<Database>,
  { cacheIds, hashes }: { readonly cacheIds: readonly string[]; readonly hashes: readonly string[] },
): Promise<{ cache_id: string; store_path: string }[]> {
  return await db
    .selectFrom("cache_path")
    .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
    .select(["cache_path.cache_id", "cache_path.store_path"])
    .where(isAnyOf("cache_path.cache_id", cacheIds, "uuid"))
    .where(isAnyOf("cache_path.hash", hashes, "text"))
    .where("nar.damaged_at", "is", null)
    .where("cache_path.incomplete_at", "is", null)
    .execute();
}

/** As `listPresentPaths`, with everything that is known of each. */
export async function listPathsWithNar(
  db: Kysely<Database>,
  { cacheIds, hashes }: { readonly cacheIds: readonly string[]; readonly hashes: readonly string[] },
): Promise<PathWithNar[]> {
  return await db
    .selectFrom("cache_path")
    .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
    .select([...PATH_COLUMNS, ...NAR_COLUMNS])
    .where(isAnyOf("cache_path.cache_id", cacheIds, "uuid"))
    .where(isAnyOf("cache_path.hash", hashes, "text"))
    .where("nar.damaged_at", "is", null)
    .where("cache_path.incomplete_at", "is", null)
    .execute();
}

/**
 * The paths among `hashes` that one cache holds with a sound NAR. Path and NAR stay until the transaction ends: a sweep
 * that locks before it looks, and whoever marks a NAR damaged, waits.
 */
export async function lockPresentPaths(
  trx: Transaction<Database>,
  { cacheId, hashes }: { readonly cacheId: string; readonly hashes: readonly string[] },
): Promise<{ hash: string; store_path: string }[]> {
  return await trx
    .selectFrom("cache_path")
    .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
    .select(["cache_path.hash", "cache_path.store_path"])
    .where("cache_path.cache_id", "=", cacheId)
    .where(isAnyOf("cache_path.hash", hashes, "text"))
    .where("nar.damaged_at", "is", null)
    .where("cache_path.incomplete_at", "is", null)
    .orderBy("cache_path.hash")
    .forShare()
    .execute();
}

/** Returns the hashes that were new. The others exist, committed by whoever was first. */
export async function insertCachePaths(trx: Transaction<Database>, paths: readonly NewCachePath[]): Promise<string[]> {
  const rows = paths.map((path) => ({ ...path, nar_hash: toHex(path.nar_hash) }));
  const result = await sql<{ hash: string }>`
    insert into cache_path (cache_id, hash, store_path, nar_hash, "references", deriver, ca, signatures)
    select r.cache_id, r.hash, r.store_path, decode(r.nar_hash, 'hex'), r."references", r.deriver, r.ca, r.signatures
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(cache_id uuid, hash text, store_path text,
      nar_hash text, "references" text[], deriver text, ca text, signatures text[])
    on conflict (cache_id, hash) do nothing
    returning hash`.execute(trx);
  return result.rows.map((row) => row.hash);
}

export type PresentPath = Pick<CachePathRow, "hash" | "store_path" | "nar_hash" | "references" | "signatures"> & {
  readonly damaged: boolean;
  readonly incomplete: boolean;
};

/** Rows of one cache with their NAR's state, held in order of their hashes. */
export async function lockPathsForUpdate(
  trx: Transaction<Database>,
  { cacheId, hashes }: { readonly cacheId: string; readonly hashes: readonly string[] },
): Promise<PresentPath[]> {
  return await trx
    .selectFrom("cache_path")
    .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
    .select(["cache_path.hash", "cache_path.store_path", "cache_path.nar_hash"])
    .select(["cache_path.references", "cache_path.signatures"])
    .select((column) => column("nar.damaged_at", "is not", null).$castTo<boolean>().as("damaged"))
    .select((column) => column("cache_path.incomplete_at", "is not", null).$castTo<boolean>().as("incomplete"))
    .where("cache_path.cache_id", "=", cacheId)
    .where(isAnyOf("cache_path.hash", hashes, "text"))
    .orderBy("cache_path.hash")
    .forNoKeyUpdate("cache_path")
    .execute();
}

/** Gives a path another NAR and what goes with it. The caller holds the row. */
export async function replaceCachePath(trx: Transaction<Database>, path: NewCachePath): Promise<void> {
  await trx
    .updateTable("cache_path")
    .set({
      store_path: path.store_path,
      nar_hash: path.nar_hash,
      references: path.references,
      deriver: path.deriver,
      ca: path.ca,
      signatures: path.signatures,
      last_used_at: databaseNow,
      incomplete_at: null,
    })
    .where("cache_id", "=", path.cache_id)
    .where("hash", "=", path.hash)
    .execute();
}

export async function setPathSignatures(
  trx: Transaction<Database>,
  { cacheId, hash, signatures }: { readonly cacheId: string; readonly hash: string; readonly signatures: string[] },
): Promise<void> {
  await trx
    .updateTable("cache_path")
    .set({ signatures })
    .where("cache_id", "=", cacheId)
    .where("hash", "=", hash)
    .execute();
}

export interface PathUse {
  readonly cacheId: string;
  readonly hash: string;
  readonly count: number;
  /** Written whenever the last use was. */
  readonly isDue: boolean;
}

/**
 * Rows that went meanwhile are passed over, and so are those that were used some minutes ago and are not due: nobody
 * looks closer than hours, and each write is a new row. Answers the latter. Durable a moment later (`commitsLater`),
 * and with whatever is waited for after it; in a transaction this goes for all of it.
 */
export async function touchPaths(
  db: Kysely<Database>,
  uses: readonly PathUse[],
): Promise<{ readonly cache_id: string; readonly hash: string }[]> {
  const result = await sql<{ cache_id: string; hash: string }>`
    with later as materialized (select ${commitsLater}), used as (
      select used.* from later, unnest(
        ${uses.map(({ cacheId }) => cacheId)}::uuid[], ${uses.map(({ hash }) => hash)}::text[],
        ${uses.map(({ count }) => count)}::bigint[], ${uses.map(({ isDue }) => isDue)}::boolean[]
      ) as used (cache_id, hash, count, is_due)
    ), written as (
      update cache_path set last_used_at = ${databaseNow}, fetch_count = fetch_count + used.count
      from used
      where cache_path.cache_id = used.cache_id and cache_path.hash = used.hash
        and (used.is_due or cache_path.last_used_at < gradient_now() - interval '10 minutes')
      returning cache_path.cache_id, cache_path.hash
    )
    select p.cache_id, p.hash from used join cache_path p on p.cache_id = used.cache_id and p.hash = used.hash
    where not exists (select from written w where w.cache_id = p.cache_id and w.hash = p.hash)`.execute(db);
  return result.rows;
}

/** Of `cacheIds`, the caches that exist: neither they nor their keys change before the transaction ends. */
export async function lockCachesForSigning(
  trx: Transaction<Database>,
  cacheIds: readonly string[],
): Promise<SigningCache[]> {
  const caches = await trx
    .selectFrom("cache")
    .select("id")
    .where(isAnyOf("id", cacheIds, "uuid"))
    .orderBy("id")
    .forKeyShare()
    .execute();
  return await withKeys(trx, caches);
}

/** One parameter whatever the length of the list, so that the statement's text stays the same. */
function isAnyOf(column: string, values: readonly string[], type: "uuid" | "text"): Expression<SqlBool> {
  return sql<SqlBool>`${sql.ref(column)} = any(${values}::${sql.raw(type)}[])`;
}
