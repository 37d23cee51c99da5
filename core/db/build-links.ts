import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

/** A build as one evaluation has it, with what decides what may be done about it. */
export interface BuildLinkState {
  readonly evaluation_id: string;
  readonly evaluation_status: number;
  readonly organization_id: string;
  readonly build_id: string;
  readonly build_status: number;
  readonly outcome: number | null;
}

export async function findBuildLinkState(db: Kysely<Database>, linkId: string): Promise<BuildLinkState | undefined> {
  const { rows } = await sql<BuildLinkState>`
    select l.evaluation_id, e.status as evaluation_status,
      e.organization_id, l.build_id, b.status as build_status, l.outcome
    from evaluation_build l join evaluation e on e.id = l.evaluation_id join build b on b.id = l.build_id
    where l.id = ${linkId}`.execute(db);
  return rows[0];
}

/** Whether another evaluation that has not ended waits for one of these builds. */
export async function isWantedElsewhere(
  db: Kysely<Database>,
  evaluationId: string,
  buildIds: readonly string[],
): Promise<boolean> {
  const { rows } = await sql`
    select from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where l.build_id = any(${buildIds}::uuid[]) and l.evaluation_id <> ${evaluationId} and l.outcome is null
      and e.status in (0, 1, 2, 3, 4, 8)
    limit 1`.execute(db);
  return rows.length > 0;
}

/**
 * Takes builds out of an evaluation: what becomes of them from now on is none of its business. `aborted` counts as
 * aborted in it, the others as failed with that.
 */
export async function takeOutOfEvaluation(
  trx: Transaction<Database>,
  { evaluationId, aborted, buildIds }: { evaluationId: string; aborted: string; buildIds: readonly string[] },
): Promise<void> {
  await sql`
    update evaluation_build l set
      outcome = case when l.build_id = ${aborted} then 5 else 6 end,
      attempt_id = (
        select a.id from attempt a where a.build_id = l.build_id order by a.assigned_at desc, a.id desc limit 1)
    where l.evaluation_id = ${evaluationId} and l.build_id = any(${buildIds}::uuid[]) and l.outcome is null`.execute(
    trx,
  );
}
