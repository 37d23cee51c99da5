import { type Kysely, type RawBuilder, sql } from "kysely";
import type { Database } from "./schema.ts";
import { isReadableUpstream } from "./upstreams.ts";

export interface MarkedPath {
  readonly cache_id: string;
  readonly hash: string;
  /** Base name. */
  readonly store_path: string;
}

/**
 * Caches whose paths may refer to what an upstream of `cache_upstream.cache_id` has: that cache, and the internal
 * stores of the organizations that read it.
 */
const RESTING = sql`
  select id as resting_id, id as lender_id from cache where kind = 0
  union all
  select store.id, s.cache_id from cache store join organization_cache s on s.organization_id = store.organization_id
  where store.kind = 1 and s.mode in (0, 1)`;

/** Whether the reference `r.name` of the row `p` of `cache_path` is in its cache, or in an upstream that counts. */
const isHeld: RawBuilder<boolean> = sql<boolean>`(
  exists (
    select from cache_path held join nar n on n.nar_hash = held.nar_hash and n.damaged_at is null
    where held.cache_id = p.cache_id and held.hash = left(r.name, 32) and held.store_path = r.name
      and held.incomplete_at is null)
  or exists (
    select from (${RESTING}) resting
    join cache_upstream u on u.cache_id = resting.lender_id
    join upstream_path seen on seen.upstream_id = u.id and seen.hash = left(r.name, 32)
      and seen.store_path = r.name and seen.found
    where resting.resting_id = p.cache_id and ${isReadableUpstream})
  or exists (
    select from (${RESTING}) resting
    join cache_upstream u on u.cache_id = resting.lender_id and u.kind = 0
    join cache_path lent on lent.cache_id = u.upstream_cache_id and lent.hash = left(r.name, 32)
      and lent.store_path = r.name and lent.incomplete_at is null
    join nar n on n.nar_hash = lent.nar_hash and n.damaged_at is null
    where resting.resting_id = p.cache_id and ${isReadableUpstream}))`;

/** Caches whose paths may refer to what these upstreams have. */
export async function listCachesResting(db: Kysely<Database>, upstreamIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select distinct resting.resting_id as id
    from cache_upstream u join (${RESTING}) resting on resting.lender_id = u.cache_id
    where u.id = any(${upstreamIds}::uuid[])`.execute(db);
  return result.rows.map((row) => row.id);
}

/**
 * Marks the paths of these caches that refer to one of these (base names) where it cannot be had any more, and answers
 * them. Reads all paths of the caches: losses are rare.
 */
export async function markReferrersIncomplete(
  db: Kysely<Database>,
  cacheIds: readonly string[],
  references: readonly string[],
): Promise<MarkedPath[]> {
  const result = await sql<MarkedPath>`
    update cache_path set incomplete_at = gradient_now()
    from (
      select p.cache_id, p.hash from cache_path p
      where p.cache_id = any(${cacheIds}::uuid[]) and p.incomplete_at is null
        and p."references" && ${references}::text[]
        and exists (
          select from unnest(p."references") as r(name)
          where r.name = any(${references}::text[]) and r.name <> p.store_path and not ${isHeld})
      order by p.cache_id, p.hash for update of p
    ) lacking
    where cache_path.cache_id = lacking.cache_id and cache_path.hash = lacking.hash
    returning cache_path.cache_id, cache_path.hash, cache_path.store_path`.execute(db);
  return result.rows;
}

/** Takes the mark from paths whose references can all be had again; to be called until it answers none. */
export async function unmarkCompletePaths(db: Kysely<Database>): Promise<MarkedPath[]> {
  const result = await sql<MarkedPath>`
    update cache_path set incomplete_at = null
    from (
      select p.cache_id, p.hash from cache_path p
      where p.incomplete_at is not null and not exists (
        select from unnest(p."references") as r(name) where r.name <> p.store_path and not ${isHeld})
      order by p.cache_id, p.hash for update of p
    ) whole
    where cache_path.cache_id = whole.cache_id and cache_path.hash = whole.hash
    returning cache_path.cache_id, cache_path.hash, cache_path.store_path`.execute(db);
  return result.rows;
}

/** What marked paths lack, and in which cache: to be asked for again. Base names. */
export async function listLackingReferences(
  db: Kysely<Database>,
  limit: number,
): Promise<{ cache_id: string; store_path: string }[]> {
  const result = await sql<{ cache_id: string; store_path: string }>`
    select distinct lender.lender_id as cache_id, r.name as store_path
    from cache_path p cross join unnest(p."references") as r(name)
    join (${RESTING}) lender on lender.resting_id = p.cache_id
    where p.incomplete_at is not null and r.name <> p.store_path and not ${isHeld}
    limit ${limit}`.execute(db);
  return result.rows;
}

/**
 * Marks paths that rest on another cache of this server which has lost what they refer to. Reads all paths of the
 * caches that have such an upstream.
 */
export async function markInternallyIncomplete(db: Kysely<Database>): Promise<MarkedPath[]> {
  const result = await sql<MarkedPath>`
    update cache_path set incomplete_at = gradient_now()
    from (
      select p.cache_id, p.hash from cache_path p
      where p.incomplete_at is null
        and p.cache_id in (
          select resting.resting_id from (${RESTING}) resting
          join cache_upstream u on u.cache_id = resting.lender_id and u.kind = 0)
        and exists (
          select from unnest(p."references") as r(name) where r.name <> p.store_path and not ${isHeld})
      order by p.cache_id, p.hash for update of p
    ) lacking
    where cache_path.cache_id = lacking.cache_id and cache_path.hash = lacking.hash
    returning cache_path.cache_id, cache_path.hash, cache_path.store_path`.execute(db);
  return result.rows;
}
