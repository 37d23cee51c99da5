import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface QueuedEvaluation {
  readonly id: string;
  readonly organization_id: string;
}

/** Queued evaluations, what people put first and then the oldest; at most `limit` of each organization. */
export async function listQueuedEvaluations(
  db: Kysely<Database>,
  organizationIds: readonly string[],
  limit: number,
): Promise<QueuedEvaluation[]> {
  const { rows } = await sql<QueuedEvaluation>`
    select e.id, e.organization_id
    from unnest(${organizationIds}::uuid[]) as o(id)
    cross join lateral (
      select id, organization_id, priority, ordinal from evaluation
      where status = 0 and organization_id = o.id
      order by priority desc, ordinal limit ${limit}) e
    order by e.priority desc, e.ordinal`.execute(db);
  return rows;
}

export interface EvaluationClaim {
  readonly evaluationId: string;
  readonly attemptId: string;
  readonly workerId: string;
  /** The worker has to end it within this time; null sets no limit. */
  readonly deadlineMs: number | null;
}

export interface ClaimedEvaluation {
  readonly id: string;
  readonly attemptId: string;
  readonly workerId: string;
  readonly organization_id: string;
  readonly repository: string;
  readonly commit_hash: string;
  readonly wildcard: string;
}

/** Gives these evaluations out, each with a lease. What somebody else has taken since is left out. */
export async function claimEvaluations(
  trx: Transaction<Database>,
  claims: readonly EvaluationClaim[],
  leaseMs: number,
): Promise<ClaimedEvaluation[]> {
  const { rows } = await sql<ClaimedEvaluation>`
    with chosen as (
      select * from jsonb_to_recordset(${JSON.stringify(claims)}::jsonb)
        as c("evaluationId" uuid, "attemptId" uuid, "workerId" uuid, "deadlineMs" float8)
    ), free as (
      select id from evaluation where status = 0 and id in (select "evaluationId" from chosen)
      order by id for no key update skip locked
    ), taken as (
      update evaluation e set status = 8, waiting_reason = null, updated_at = gradient_now(),
        fetch_started_at = gradient_now()
      from free where e.id = free.id
      returning e.id, e.organization_id, e.repository, e.commit_hash, e.wildcard
    ), leased as (
      insert into attempt (id, kind, organization_id, evaluation_id, worker_id, lease_expires_at, deadline_at)
      select c."attemptId", 0, t.organization_id, t.id, c."workerId",
        gradient_now() + ${leaseMs} * interval '1 millisecond',
        gradient_now() + c."deadlineMs" * interval '1 millisecond'
      from taken t join chosen c on c."evaluationId" = t.id
    )
    select t.*, c."attemptId", c."workerId" from taken t join chosen c on c."evaluationId" = t.id`.execute(trx);
  return rows;
}
