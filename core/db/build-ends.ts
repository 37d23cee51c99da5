import { type Kysely, sql, type Transaction } from "kysely";
import type { AttemptOutcome, AttemptReason, BuildStatus } from "../domain/states.ts";
import { type LockedBuild, waitingAbove } from "./build-transitions.ts";
import type { Database } from "./schema.ts";

export interface OpenBuildAttempt {
  readonly id: string;
  readonly build_id: string;
}

/** Those of the attempts that are builds' and whose leases hold, locked in id order. What came late is not among them. */
export async function lockOpenBuildAttempts(
  trx: Transaction<Database>,
  attemptIds: readonly string[],
): Promise<OpenBuildAttempt[]> {
  const result = await sql<OpenBuildAttempt>`
    select id, build_id from attempt
    where id = any(${attemptIds}::uuid[]) and build_id is not null and finished_at is null
    order by id for update`.execute(trx);
  return result.rows;
}

/**
 * Locks builds that end together with what their ends touch: what rests on a success, and everything that waits for a
 * failure, however far above. They come at once and in id order: a build need not have a smaller id than what rests on
 * it. Returns the builds that end.
 */
export async function lockEndingBuilds(
  trx: Transaction<Database>,
  { succeeded, failed }: { readonly succeeded: readonly string[]; readonly failed: readonly string[] },
): Promise<Map<string, LockedBuild>> {
  const ending = [...succeeded, ...failed];
  const above = failed.length === 0 ? sql`` : sql`union (${waitingAbove(failed)})`;
  const result = await sql<LockedBuild>`
    select id, organization_id, drv_path, status, pending_dependencies, transient_failures from build
    where id in (
      select unnest(${ending}::uuid[])
      union select build_id from build_edge where dependency_id = any(${succeeded}::uuid[])
      ${above})
    order by id for no key update`.execute(trx);
  const wanted = new Set(ending);
  return new Map(result.rows.filter(({ id }) => wanted.has(id)).map((build) => [build.id, build]));
}

/** How an attempt ended, and what that makes of its build. */
export interface BuildEnd {
  readonly attempt_id: string;
  readonly build_id: string;
  readonly status: BuildStatus;
  readonly outcome: AttemptOutcome;
  readonly reason: AttemptReason | null;
  readonly message: string | null;
  /** How long the builder ran, for an attempt whose start was not recorded when it happened; null when it never ran. */
  readonly ran_for_ms: number | null;
  readonly retry_in_ms: number | null;
  readonly deterministic: boolean;
}

/**
 * Ends attempts with their builds, in one statement. Every output of a build that succeeded is available from then on;
 * the edges above are the caller's (`settleEdgesAbove`). A build that is not building any more stays as it is.
 */
export async function recordBuildEnds(trx: Transaction<Database>, ends: readonly BuildEnd[]): Promise<void> {
  await sql`
    with ends as (
      select * from jsonb_to_recordset(${JSON.stringify(ends)}::jsonb) as r(attempt_id uuid, build_id uuid,
        status smallint, outcome smallint, reason smallint, message text, ran_for_ms bigint, retry_in_ms bigint,
        deterministic boolean)
    ), moved as (
      update build set
        status = ends.status,
        updated_at = gradient_now(),
        ready_at = case when ends.status = 1 then gradient_now() else ready_at end,
        retry_at = gradient_now() + ends.retry_in_ms * interval '1 millisecond',
        transient_failures = transient_failures + case when ends.status = 8 then 1 else 0 end,
        deterministic_failure = ends.deterministic
      from ends where build.id = ends.build_id and build.status = 2
    ), made as (
      update build_output set available = true
      from ends where build_output.build_id = ends.build_id and ends.status in (3, 7) and not available
    )
    update attempt set
      outcome = ends.outcome,
      reason = ends.reason,
      message = ends.message,
      started_at = coalesce(started_at, gradient_now() - ends.ran_for_ms * interval '1 millisecond'),
      finished_at = gradient_now()
    from ends where attempt.id = ends.attempt_id and finished_at is null`.execute(trx);
}

/**
 * Evaluations that have not ended and link one of these builds: whoever watches them wants to look again. `may_end`:
 * nothing open rests on one of the builds, so that the evaluation may be over now. An evaluation's last build has
 * nothing above it that is open, so none is missed. One that is not building yet is among them: it may begin to build
 * at this moment.
 */
export async function listEvaluationsAbove(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<{ readonly id: string; readonly may_end: boolean }[]> {
  const result = await sql<{ id: string; may_end: boolean }>`
    select e.id, bool_or(not exists (
      select from build_edge d
      join build b on b.id = d.build_id
      join evaluation_build above on above.build_id = b.id and above.evaluation_id = e.id
      where d.dependency_id = l.build_id and b.status in (0, 1, 2, 8))) as may_end
    from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where l.build_id = any(${buildIds}::uuid[]) and e.status in (0, 1, 2, 3, 4, 8)
    group by e.id`.execute(db);
  return result.rows;
}
