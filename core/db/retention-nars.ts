import { type Kysely, type RawBuilder, type SqlBool, sql, type Transaction } from "kysely";
import { type GracedRequest, QUEUE_BEGIN, type QueuePlace, takeFromQueue } from "./retention-queue.ts";
import type { Database } from "./schema.ts";

/** No path of any cache is served from the NAR `n`. */
const isUnnamed: RawBuilder<SqlBool> = sql<SqlBool>`not exists (
  select from cache_path p where p.nar_hash = n.nar_hash)`;

/** Queues the NARs that no path names, and that nobody has counted on for `graceMs`. Answers how many they are. */
export async function queueUnnamedNars(db: Kysely<Database>, markId: string, graceMs: number): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into retention_step (mark_id, step, subject)
    select ${markId}, ${QUEUE_BEGIN.wave}, encode(n.nar_hash, 'hex') from nar n
    where n.claimed_at < gradient_now() - ${graceMs}::float8 * interval '1 millisecond' and ${isUnnamed}`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

export interface DeletedNars {
  /** Where to go on; null: the queue is at its end. */
  readonly next: QueuePlace | null;
  readonly nars: number;
  readonly bytes: number;
}

/** Takes NARs from the queue and deletes those that nobody has named or counted on meanwhile. */
export async function deleteQueuedNars(
  trx: Transaction<Database>,
  markId: string,
  { graceMs, ...from }: GracedRequest,
): Promise<DeletedNars> {
  const taken = await takeFromQueue(trx, markId, from);
  if (!taken) return { next: null, nars: 0, bytes: 0 };
  return { next: taken.next, ...(await deleteUnnamedNars(trx, taken.subjects, graceMs)) };
}

/**
 * Deletes those of the NARs (hexadecimal digits) that no path names. Their objects are discarded by that. Whoever is
 * about to name one holds it, and it is passed over.
 */
export async function deleteUnnamedNars(
  trx: Transaction<Database>,
  hashes: readonly string[],
  graceMs: number,
): Promise<{ readonly nars: number; readonly bytes: number; readonly objectKeys: readonly string[] }> {
  if (hashes.length === 0) return { nars: 0, bytes: 0, objectKeys: [] };
  const { rows: locked } = await sql<{ nar_hash: Uint8Array }>`
    select nar_hash from nar
    where nar_hash in (select decode(h, 'hex') from unnest(${hashes}::text[]) h)
      and claimed_at <= gradient_now() - ${graceMs}::float8 * interval '1 millisecond'
    for update skip locked`.execute(trx);
  const { rows } = await sql<{ file_size: number; object_key: string }>`
    delete from nar n where n.nar_hash = any(${locked.map(({ nar_hash }) => nar_hash)}::bytea[]) and ${isUnnamed}
    returning n.file_size, n.object_key`.execute(trx);
  return {
    nars: rows.length,
    bytes: rows.reduce((sum, { file_size }) => sum + file_size, 0),
    objectKeys: rows.map(({ object_key }) => object_key),
  };
}

/** Somebody counts on these NARs from now on, though no path names them yet. The caller holds the rows. */
export async function claimNars(trx: Transaction<Database>, narHashes: readonly Uint8Array[]): Promise<void> {
  await sql`
    update nar set claimed_at = gradient_now()
    where nar_hash = any(${narHashes}::bytea[]) and claimed_at < gradient_now() - interval '1 hour'`.execute(trx);
}

/** Pushed logs of derivations that no path of the cache comes from, after a grace. */
export async function deleteUnusedCacheLogs(
  db: Kysely<Database>,
  { graceMs, limit }: { readonly graceMs: number; readonly limit: number },
): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from cache_log where (cache_id, derivation) in (
      select l.cache_id, l.derivation from cache_log l
      where l.created_at < gradient_now() - ${graceMs}::float8 * interval '1 millisecond'
        and not exists (select from cache_path p where p.cache_id = l.cache_id and p.deriver = l.derivation)
      limit ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
}
