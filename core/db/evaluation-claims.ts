import { type Kysely, sql, type Transaction } from "kysely";
import type { QueuedEvaluation } from "../domain/scheduling/choose-evaluations.ts";
import type { EvaluationPart } from "../domain/scheduling/eligibility.ts";
import { leaseEnd } from "./leases.ts";
import type { Database } from "./schema.ts";
import type { FetchedSource, InputOverride } from "./tables/flake-inputs.ts";

/** Queued evaluations, what people put first and then the oldest; at most `limit` of each organization. */
export async function listQueuedEvaluations(
  db: Kysely<Database>,
  organizationIds: readonly string[],
  limit: number,
): Promise<QueuedEvaluation[]> {
  const { rows } = await sql<QueuedEvaluation>`
    select e.id, e.organization_id, e.source is not null as fetched, e.trusted
    from unnest(${organizationIds}::uuid[]) as o(id)
    cross join lateral (
      select id, organization_id, source, trusted, priority, ordinal from evaluation
      -- One with a lease is a fault, which the audit mends; until then it must not stop the whole pass.
      where status = 0 and organization_id = o.id and not exists (
        select from attempt a where a.evaluation_id = evaluation.id and a.finished_at is null)
      order by priority desc, ordinal limit ${limit}) e
    order by e.priority desc, e.ordinal`.execute(db);
  return rows;
}

export interface EvaluationClaim {
  readonly evaluationId: string;
  readonly attemptId: string;
  readonly workerId: string;
  readonly part: EvaluationPart;
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
  readonly trusted: boolean;
  readonly input_overrides: readonly InputOverride[];
  readonly source: FetchedSource | null;
  readonly part: EvaluationPart;
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
        as c("evaluationId" uuid, "attemptId" uuid, "workerId" uuid, part text, "deadlineMs" float8)
    ), free as (
      -- What has been fetched, or is to be fetched again, since it was chosen needs another part.
      select e.id, c.part from evaluation e join chosen c on c."evaluationId" = e.id
      where e.status = 0 and (e.source is not null) = (c.part = 'eval')
      order by e.id for no key update of e skip locked
    ), taken as (
      update evaluation e set status = case when free.part = 'eval' then 1 else 8 end, waiting_reason = null,
        updated_at = gradient_now(), fetch_started_at = coalesce(
          case when free.part = 'eval' then e.fetch_started_at end, gradient_now())
      from free where e.id = free.id
      returning e.id, e.organization_id, e.repository, e.commit_hash, e.wildcard, e.trusted, e.input_overrides, e.source
    ), leased as (
      insert into attempt (id, kind, organization_id, evaluation_id, worker_id, lease_expires_at, deadline_at)
      select c."attemptId", case when c.part = 'fetch' then 2 else 0 end, t.organization_id, t.id, c."workerId",
        ${leaseEnd(leaseMs)},
        gradient_now() + c."deadlineMs" * interval '1 millisecond'
      from taken t join chosen c on c."evaluationId" = t.id
    )
    select t.*, c."attemptId", c."workerId", c.part from taken t join chosen c on c."evaluationId" = t.id`.execute(trx);
  return rows;
}
