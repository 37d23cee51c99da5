import { type Kysely, type RawBuilder, type SqlBool, sql, type Transaction } from "kysely";
import { type GracedRequest, QUEUE_BEGIN, type QueuePlace, takeFromQueue } from "./retention-queue.ts";
import type { Database } from "./schema.ts";

/** No evaluation links the build `b`, nothing rests on it, and nothing happens to it any more. */
function isOrphan(graceMs: number): RawBuilder<SqlBool> {
  return sql<SqlBool>`(b.status not in (0, 1, 2, 8)
    and b.updated_at < gradient_now() - ${graceMs}::float8 * interval '1 millisecond'
    and not exists (select from evaluation_build l where l.build_id = b.id)
    and not exists (select from build_edge e where e.dependency_id = b.id))`;
}

/** Queues the builds that may go first. Answers how many they are. */
export async function queueOrphanBuilds(db: Kysely<Database>, markId: string, graceMs: number): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into retention_step (mark_id, step, subject)
    select ${markId}, ${QUEUE_BEGIN.wave}, b.id::text from build b where ${isOrphan(graceMs)}`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

export interface DeletedBuilds {
  /** Where to go on; null: the queue is at its end. */
  readonly next: QueuePlace | null;
  readonly builds: number;
}

/**
 * Takes builds from the queue and deletes those that nobody wants, with their attempts and logs, and queues what
 * nothing rests on then. Whoever is about to link one, or to report that something needs it, holds it, and it is passed
 * over.
 */
export async function deleteQueuedBuilds(
  trx: Transaction<Database>,
  markId: string,
  { graceMs, ...from }: GracedRequest,
): Promise<DeletedBuilds> {
  const taken = await takeFromQueue(trx, markId, from);
  if (!taken) return { next: null, builds: 0 };
  const { rows: locked } = await sql<{ id: string }>`
    select id from build where id = any(${taken.subjects}::uuid[])
    for update skip locked`.execute(trx);
  const ids = locked.map(({ id }) => id);
  const { rows: below } = await sql<{ id: string }>`
    select distinct dependency_id as id from build_edge where build_id = any(${ids}::uuid[])`.execute(trx);
  const { numAffectedRows } = await sql`
    delete from build b where b.id = any(${ids}::uuid[]) and ${isOrphan(graceMs)}`.execute(trx);
  await sql`
    insert into retention_step (mark_id, step, subject)
    select ${markId}, ${taken.next.wave + 1}, b.id::text from build b
    where b.id = any(${below.map(({ id }) => id)}::uuid[]) and ${isOrphan(graceMs)}
    on conflict do nothing`.execute(trx);
  return { next: taken.next, builds: Number(numAffectedRows ?? 0n) };
}
