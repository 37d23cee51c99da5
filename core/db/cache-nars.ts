import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface CacheNarRow {
  readonly hash: string;
  readonly store_path: string;
  readonly nar_size: number;
  readonly file_size: number;
  readonly created_at: Date;
  readonly last_used_at: Date;
  readonly fetch_count: number;
}

export interface CacheNarFilter {
  readonly cacheId: string;
  /** A beginning of hashes; empty: all. */
  readonly prefix: string;
  /** A part of the name in lower case; empty: all. */
  readonly name: string;
}

const ORDER = {
  created_at: sql`p.created_at`,
  nar_size: sql`n.nar_size`,
  last_fetched_at: sql`p.last_used_at`,
} as const;

const matching = ({ cacheId, prefix, name }: CacheNarFilter) => sql`p.cache_id = ${cacheId}
  and ${prefix ? sql`p.hash like ${`${prefix}%`}` : sql`true`}
  and ${name ? sql`strpos(lower(substr(p.store_path, 34)), ${name}) > 0` : sql`true`}`;

export async function listCacheNars(
  db: Kysely<Database>,
  filter: CacheNarFilter,
  {
    sort,
    order,
    limit,
    offset,
  }: {
    readonly sort: keyof typeof ORDER;
    readonly order: "asc" | "desc";
    readonly limit: number;
    readonly offset: number;
  },
): Promise<CacheNarRow[]> {
  const direction = order === "asc" ? sql`asc` : sql`desc`;
  const { rows } = await sql<CacheNarRow>`
    select p.hash, p.store_path, n.nar_size, n.file_size, p.created_at, p.last_used_at, p.fetch_count
    from cache_path p join nar n on n.nar_hash = p.nar_hash
    where ${matching(filter)}
    order by ${ORDER[sort]} ${direction}, p.hash ${direction} limit ${limit} offset ${offset}`.execute(db);
  return rows;
}

export async function countCacheNars(db: Kysely<Database>, filter: CacheNarFilter): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from cache_path p where ${matching(filter)}`.execute(db);
  return rows[0]?.count ?? 0;
}

/** When the newest path came, and the longest time without a use. */
export async function findCacheNarTimes(
  db: Kysely<Database>,
  cacheId: string,
): Promise<{ readonly newest: Date | null; readonly oldest_use: Date | null }> {
  const { rows } = await sql<{ newest: Date | null; oldest_use: Date | null }>`
    select max(created_at) as newest, min(last_used_at) as oldest_use
    from cache_path where cache_id = ${cacheId}`.execute(db);
  return rows[0] ?? { newest: null, oldest_use: null };
}
