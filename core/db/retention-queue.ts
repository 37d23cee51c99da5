import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/**
 * Where a sweep is in its queue. What one wave's deletions let go of is the next wave's; rows stay until the mark is
 * forgotten, for a queue that is emptied as it is read is read through its dead rows again and again.
 */
export interface QueuePlace {
  readonly wave: number;
  /** The subject that was taken last. */
  readonly after: string;
}

export interface QueueRequest {
  readonly place: QueuePlace;
  readonly limit: number;
}

export interface GracedRequest extends QueueRequest {
  readonly graceMs: number;
}

export const QUEUE_BEGIN: QueuePlace = { wave: 0, after: "" };

/** The next of the queue, in order, and the place behind them. Null at its end. */
export async function takeFromQueue(
  db: Kysely<Database>,
  markId: string,
  { place, limit }: QueueRequest,
): Promise<{ readonly subjects: readonly string[]; readonly next: QueuePlace } | null> {
  const { rows } = await sql<{ step: number; subject: string }>`
    (select step, subject from retention_step
      where mark_id = ${markId} and step = ${place.wave} and subject > ${place.after} order by subject limit ${limit})
    union all
    (select step, subject from retention_step
      where mark_id = ${markId} and step = ${place.wave + 1} order by subject limit ${limit})`.execute(db);
  const wave = rows[0]?.step;
  if (wave === undefined) return null;
  const subjects = rows.filter(({ step }) => step === wave).map(({ subject }) => subject);
  return { subjects, next: { wave, after: subjects.at(-1) as string } };
}
