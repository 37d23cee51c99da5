import { type Kysely, sql, type Transaction } from "kysely";
import { type SigningCache, withKeys } from "./cache-keys.ts";
import { READABLE_MODES, storesOf, WRITABLE_MODES } from "./cache-paths.ts";
import type { Database } from "./schema.ts";

/** As `listReadableStores` and `listWritableCaches` together, with the keys; neither changes before the commit. */
export async function lockStoresForSigning(
  trx: Transaction<Database>,
  organizationId: string,
): Promise<(SigningCache & { readonly kind: number; readonly readable: boolean; readonly writable: boolean })[]> {
  const rows = await trx
    .selectFrom("cache")
    .leftJoin("organization_cache", (join) =>
      join
        .onRef("organization_cache.cache_id", "=", "cache.id")
        .on("organization_cache.organization_id", "=", organizationId),
    )
    .select(["cache.id", "cache.kind", "organization_cache.mode"])
    .where("cache.id", "in", storesOf(trx, organizationId))
    .where("cache.active", "=", true)
    .where((where) =>
      where.or([
        where.and([where("cache.kind", "=", 1), where("cache.organization_id", "=", organizationId)]),
        where.and([where("cache.kind", "=", 0), where("organization_cache.mode", "is not", null)]),
      ]),
    )
    .orderBy("cache.kind", "desc")
    .orderBy("cache.id")
    .forKeyShare("cache")
    .execute();
  const stores = rows.map(({ mode, ...cache }) => ({
    ...cache,
    readable: mode === null || READABLE_MODES.includes(mode),
    writable: mode !== null && WRITABLE_MODES.includes(mode),
  }));
  return await withKeys(trx, stores);
}

export interface AbsentOutput {
  readonly build_id: string;
  readonly name: string;
  readonly store_path: string | null;
}

/**
 * Outputs of these builds that no store which their organization reads (`listReadableStores`) holds undamaged. Each
 * `offset 0` keeps the order, from the builds down: without statistics of a graph that has just been reported,
 * PostgreSQL would rather read all outputs.
 */
export async function listAbsentOutputs(db: Kysely<Database>, buildIds: readonly string[]): Promise<AbsentOutput[]> {
  const result = await sql<AbsentOutput>`
    with wanted as materialized (
      select b.id as build_id, b.organization_id, o.name, o.store_path
      from build b
      cross join lateral (select name, store_path from build_output where build_id = b.id offset 0) o
      where b.id = any(${buildIds}::uuid[])
    ), readable as materialized (
      select id as cache_id, organization_id from cache
      where kind = 1 and active and organization_id in (select organization_id from wanted)
      union all
      select c.id, s.organization_id from organization_cache s join cache c on c.id = s.cache_id
      where s.organization_id in (select organization_id from wanted) and s.mode = any(${READABLE_MODES}::smallint[])
        and c.kind = 0 and c.active
    )
    select build_id, name, store_path from wanted w
    where not exists (
      select from readable r
      cross join lateral (
        select nar_hash from cache_path
        where cache_id = r.cache_id and hash = left(w.store_path, 32) and store_path = w.store_path
          and incomplete_at is null offset 0) p
      cross join lateral (select from nar where nar_hash = p.nar_hash and damaged_at is null offset 0) n
      where r.organization_id = w.organization_id)`.execute(db);
  return result.rows;
}
