import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface BlockedPath {
  readonly cache_id: string;
  readonly hash: string;
  readonly reason: string;
}

/** Which of `hashes` these caches do not take. While the caller holds the caches none is blocked. */
export async function listBlockedPaths(
  db: Kysely<Database>,
  cacheIds: readonly string[],
  hashes: readonly string[],
): Promise<BlockedPath[]> {
  const { rows } = await sql<BlockedPath>`
    select cache_id, hash, reason from blocked_path
    where cache_id = any(${cacheIds}::uuid[]) and hash = any(${hashes}::text[])`.execute(db);
  return rows;
}

/** Waits until everything that is being committed to the cache is, and lets nothing in before the transaction ends. */
export async function lockCacheToBlock(trx: Transaction<Database>, cacheId: string): Promise<void> {
  await sql`select from cache where id = ${cacheId} for update`.execute(trx);
}

export async function insertBlock(
  trx: Transaction<Database>,
  block: BlockedPath & { readonly blocked_by: string | null },
): Promise<void> {
  await sql`
    insert into blocked_path (cache_id, hash, reason, blocked_by)
    values (${block.cache_id}, ${block.hash}, ${block.reason}, ${block.blocked_by})
    on conflict (cache_id, hash) do update set reason = excluded.reason, blocked_by = excluded.blocked_by,
      created_at = gradient_now()`.execute(trx);
}

export async function deleteBlock(
  db: Kysely<Database>,
  { cacheId, hash }: { readonly cacheId: string; readonly hash: string },
): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("blocked_path")
    .where("cache_id", "=", cacheId)
    .where("hash", "=", hash)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}

export interface ShownBlock {
  readonly hash: string;
  readonly reason: string;
  readonly blocked_by: string | null;
  readonly created_at: Date;
}

/** The newest first. */
export async function listBlocks(db: Kysely<Database>, cacheId: string, limit: number): Promise<ShownBlock[]> {
  const { rows } = await sql<ShownBlock>`
    select b.hash, b.reason, u.username as blocked_by, b.created_at
    from blocked_path b left join user_account u on u.id = b.blocked_by
    where b.cache_id = ${cacheId} order by b.created_at desc, b.hash limit ${limit}`.execute(db);
  return rows;
}
