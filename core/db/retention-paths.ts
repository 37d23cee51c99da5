import { type Kysely, sql, type Transaction } from "kysely";
import type { Mark } from "./retention-marks.ts";
import { QUEUE_BEGIN, type QueuePlace, type QueueRequest, takeFromQueue } from "./retention-queue.ts";
import { hasReferrer, isRoot } from "./retention-roots.ts";
import type { Database } from "./schema.ts";

/** Queues the doomed paths that nothing refers to. Answers how many they are. */
export async function queueDoomedTops(db: Kysely<Database>, { id, scope }: Mark): Promise<number> {
  const { numAffectedRows } = await sql`
    with needed as materialized (
      select distinct left(r.path, 32) as hash
      from retention_path o
      join cache_path p on p.cache_id = ${scope.cacheId} and p.hash = o.hash
      cross join lateral unnest(p."references") r (path)
      where o.mark_id = ${id} and o.doomed and left(r.path, 32) <> o.hash
    )
    insert into retention_step (mark_id, step, subject)
    select ${id}, ${QUEUE_BEGIN.wave}, w.hash
    from retention_path w left join needed n on n.hash = w.hash
    where w.mark_id = ${id} and w.doomed and n.hash is null`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

export interface DeletedPaths {
  /** Where to go on; null: the queue is at its end. */
  readonly next: QueuePlace | null;
  readonly hashes: readonly string[];
  /** Of the files that these were served from. */
  readonly bytes: number;
}

/**
 * Takes paths from the queue and deletes those that may still go, and queues what nothing refers to then: referrers go
 * before what they refer to, so that every closure is whole at every moment.
 *
 * Each path is locked first; a path that somebody holds is in use and stays. What decides is read under the locks, in a
 * later statement: a commit that relied on the path has held it, and is seen.
 */
export async function deleteQueuedPaths(
  trx: Transaction<Database>,
  { id, scope }: Mark,
  from: QueueRequest,
): Promise<DeletedPaths> {
  const taken = await takeFromQueue(trx, id, from);
  if (!taken) return { next: null, hashes: [], bytes: 0 };
  const locked = await sql<{ hash: string }>`
    select p.hash
    from cache_path p join retention_path w on w.mark_id = ${id} and w.hash = p.hash
    where p.cache_id = ${scope.cacheId} and p.hash = any(${taken.subjects}::text[])
      and p.last_used_at <= w.last_used_at and p.nar_hash = w.nar_hash
    for update of p skip locked`.execute(trx);
  const deleted = await sql<{ hash: string; references: string[]; bytes: number }>`
    delete from cache_path p using nar n
    where p.cache_id = ${scope.cacheId} and p.hash = any(${locked.rows.map(({ hash }) => hash)}::text[])
      and n.nar_hash = p.nar_hash and not ${hasReferrer(scope)} and not ${isRoot(scope, sql.ref("p.store_path"))}
    returning p.hash, p."references", n.file_size as bytes`.execute(trx);
  const below = new Set(deleted.rows.flatMap(({ references }) => references.map((path) => path.slice(0, 32))));
  await sql`
    insert into retention_step (mark_id, step, subject)
    select ${id}, ${taken.next.wave + 1}, p.hash
    from retention_path w join cache_path p on p.cache_id = ${scope.cacheId} and p.hash = w.hash
    where w.mark_id = ${id} and w.hash = any(${[...below]}::text[]) and w.doomed and not ${hasReferrer(scope)}
    on conflict do nothing`.execute(trx);
  return {
    next: taken.next,
    hashes: deleted.rows.map(({ hash }) => hash),
    bytes: deleted.rows.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}
