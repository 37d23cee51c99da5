import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

/**
 * None of these rows goes before the transaction ends: a sweep passes over them, and afterwards sees what this
 * transaction wrote down. What is there is to be read in a later statement.
 */
export async function holdPresentPaths(
  trx: Transaction<Database>,
  { cacheIds, hashes }: { readonly cacheIds: readonly string[]; readonly hashes: readonly string[] },
): Promise<void> {
  await sql`
    select from cache_path where cache_id = any(${cacheIds}::uuid[]) and hash = any(${hashes}::text[])
    order by cache_id, hash for key share`.execute(trx);
}

/** These caches, and those of this server that they have as upstreams. */
export async function listLendingCaches(db: Kysely<Database>, cacheIds: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    select unnest(${cacheIds}::uuid[]) as id
    union
    select upstream_cache_id from cache_upstream
    where cache_id = any(${cacheIds}::uuid[]) and upstream_cache_id is not null`.execute(db);
  return rows.map(({ id }) => id);
}
