import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface UnansweredAttempt {
  readonly id: string;
  readonly worker_id: string;
  /** Null for an evaluation. */
  readonly build_id: string | null;
  /** The worker has said that it began. */
  readonly started: boolean;
  /** Since it was given out. */
  readonly minutes: number;
}

/** Open attempts whose deadline is over. Not locked. */
export async function listUnanswered(db: Kysely<Database>, limit: number): Promise<UnansweredAttempt[]> {
  const { rows } = await sql<UnansweredAttempt>`
    select id, worker_id, build_id, started_at is not null as started,
      floor(extract(epoch from gradient_now() - assigned_at) / 60)::int as minutes
    from attempt where finished_at is null and deadline_at < gradient_now()
    order by deadline_at limit ${limit}`.execute(db);
  return rows;
}
