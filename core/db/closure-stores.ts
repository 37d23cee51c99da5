import { type Kysely, type RawBuilder, sql } from "kysely";
import { listReadableStores } from "./cache-paths.ts";
import type { Database } from "./schema.ts";
import { isReadableUpstream } from "./upstreams.ts";

/** Where an organization's paths may be: what it reads, and what that passes on. */
export interface ClosureStores {
  readonly cacheIds: readonly string[];
  readonly upstreamIds: readonly string[];
}

export async function findClosureStores(db: Kysely<Database>, organizationId: string): Promise<ClosureStores> {
  const own = (await listReadableStores(db, organizationId)).map(({ id }) => id);
  if (own.length === 0) return { cacheIds: [], upstreamIds: [] };
  const { rows } = await sql<{ id: string; upstream_cache_id: string | null }>`
    select u.id, u.upstream_cache_id from cache_upstream u
    where u.cache_id = any(${own}::uuid[]) and ${isReadableUpstream}`.execute(db);
  const passed = rows.flatMap(({ upstream_cache_id }) => upstream_cache_id ?? []);
  return { cacheIds: [...new Set([...own, ...passed])], upstreamIds: rows.map(({ id }) => id) };
}

/**
 * One row with `nar_size` and `"references"` of the path whose hash is `hash`: of a store, else of what an upstream
 * said. No row: neither has it.
 */
export function pathOf(hash: RawBuilder<unknown>, { cacheIds, upstreamIds }: ClosureStores): RawBuilder<unknown> {
  return sql`
    select * from (
      select n.nar_size, p."references"
      from cache_path p join nar n on n.nar_hash = p.nar_hash
      where p.cache_id = any(${cacheIds}::uuid[]) and p.hash = ${hash}
      union all
      select u.nar_size, u."references"
      from upstream_path u
      where u.upstream_id = any(${upstreamIds}::uuid[]) and u.hash = ${hash} and u.nar_size is not null
    ) known limit 1`;
}
