import { type Kysely, sql, type Transaction } from "kysely";
import type { RootScope } from "./retention-roots.ts";
import type { Database } from "./schema.ts";

export interface Referrer {
  readonly cache_id: string;
  readonly hash: string;
  /** Base name. */
  readonly store_path: string;
  /** One of the asked that it refers to: its base name. */
  readonly reference: string;
}

/** What refers directly to one of these paths (base names) and rests on this cache for it, at most `limit`. */
export async function listReferrers(
  db: Kysely<Database>,
  { referringCacheIds }: RootScope,
  storePaths: readonly string[],
  limit: number,
): Promise<Referrer[]> {
  const { rows } = await sql<Referrer>`
    select r.cache_id, r.hash, r.store_path, a.path as reference
    from cache_path r
    cross join lateral (
      select a.path from unnest(${storePaths}::text[]) a (path)
      where a.path = any(r."references") and a.path <> r.store_path limit 1) a
    where r."references" && ${storePaths}::text[] and r.cache_id = any(${referringCacheIds}::uuid[])
    limit ${limit}`.execute(db);
  return rows;
}

export interface RemovablePath {
  readonly hash: string;
  readonly store_path: string;
  /** Hexadecimal digits. */
  readonly nar_hash: string;
  /** The names of pins on it. */
  readonly pins: string[];
}

/** Rows of one cache, locked in order of their hashes: whoever relies on one has committed, or waits. */
export async function lockPathsToRemove(
  trx: Transaction<Database>,
  cacheId: string,
  hashes: readonly string[],
): Promise<RemovablePath[]> {
  await sql`
    select from cache_path where cache_id = ${cacheId} and hash = any(${hashes}::text[])
    order by hash for update`.execute(trx);
  const { rows } = await sql<RemovablePath>`
    select p.hash, p.store_path, encode(p.nar_hash, 'hex') as nar_hash, array(
      select distinct n.name from cache_pin_revision r join cache_pin n on n.id = r.pin_id
      where r.cache_id = p.cache_id and r.hash = p.hash order by n.name) as pins
    from cache_path p where p.cache_id = ${cacheId} and p.hash = any(${hashes}::text[])`.execute(trx);
  return rows;
}

export async function deletePaths(
  trx: Transaction<Database>,
  cacheId: string,
  hashes: readonly string[],
): Promise<void> {
  await trx
    .deleteFrom("cache_path")
    .where("cache_id", "=", cacheId)
    .where("hash", "=", sql<string>`any(${hashes}::text[])`)
    .execute();
}

export interface PathState {
  /** Base name. */
  readonly store_path: string;
  readonly last_used_at: Date;
  readonly fresh: boolean;
  readonly used: boolean;
}

/** How lately these paths (base names) of caches came and were asked for; `unusedMs` 0: whenever that was. */
export async function listPathStates(
  db: Kysely<Database>,
  { cacheId }: RootScope,
  storePaths: readonly string[],
  { unusedMs, freshMs }: { readonly unusedMs: number; readonly freshMs: number },
): Promise<PathState[]> {
  const { rows } = await sql<PathState>`
    select store_path, last_used_at,
      created_at >= gradient_now() - ${freshMs}::float8 * interval '1 millisecond' as fresh,
      last_used_at >= gradient_now() - ${unusedMs}::float8 * interval '1 millisecond' as used
    from cache_path where cache_id = ${cacheId} and store_path = any(${storePaths}::text[])
      and hash = any(${storePaths.map((path) => path.slice(0, 32))}::text[])
    order by last_used_at desc`.execute(db);
  return rows;
}
