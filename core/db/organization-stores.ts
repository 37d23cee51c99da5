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

/** Outputs of these builds that no store which their organization reads (`listReadableStores`) holds undamaged. */
export async function listAbsentOutputs(db: Kysely<Database>, buildIds: readonly string[]): Promise<AbsentOutput[]> {
  const result = await sql<AbsentOutput>`
    select o.build_id, o.name, o.store_path
    from build b join build_output o on o.build_id = b.id
    where b.id = any(${buildIds}::uuid[]) and not exists (
      select from (
        select id from cache where kind = 1 and organization_id = b.organization_id and active
        union all
        select c.id from organization_cache s join cache c on c.id = s.cache_id
        where s.organization_id = b.organization_id and s.mode = any(${READABLE_MODES}::smallint[])
          and c.kind = 0 and c.active
      ) readable
      join cache_path p on p.cache_id = readable.id and p.hash = left(o.store_path, 32) and p.store_path = o.store_path
        and p.incomplete_at is null
      join nar n on n.nar_hash = p.nar_hash and n.damaged_at is null)`.execute(db);
  return result.rows;
}
