import { sql, type Transaction } from "kysely";
import type { AttemptOutcome, AttemptReason, BuildStatus } from "../domain/states.ts";
import { type LockedBuild, waitingAboveThose } from "./build-transitions.ts";
import { nothingOpenAbove } from "./evaluation-end.ts";
import type { Database } from "./schema.ts";
import type { AttemptMetrics } from "./tables/build-results.ts";

/** A build whose attempt ends. */
export interface EndingBuild extends LockedBuild {
  readonly attempt_id: string;
  /** Base names of its outputs; empty for one whose path is not known. */
  readonly outputs: readonly string[];
  readonly resolution: number;
}

/**
 * Locks, of these attempts, those that are builds' and whose leases hold, in id order; and then their builds together
 * with what their ends touch: what rests on a success, and everything that waits for a failure, however far above.
 * These too come at once and in id order: a build need not have a smaller id than what rests on it. Returns the builds
 * that end. What came late is not among them.
 *
 * An open attempt is here, and in `recordBuildEnds`, one without an outcome, which is the same as one without an end:
 * for the latter the planner knows an index, and would look through all that has ended in it for a few ids.
 */
export async function lockEndingBuilds(
  trx: Transaction<Database>,
  { attemptIds, failed }: { readonly attemptIds: readonly string[]; readonly failed: readonly string[] },
): Promise<EndingBuild[]> {
  const lost = sql`any(select build_id from held where id = any(${failed}::uuid[]))`;
  const above = failed.length === 0 ? sql`` : sql`union (${waitingAboveThose(lost)})`;
  const result = await sql<EndingBuild & { readonly attempt_id: string | null }>`
    with held as materialized (
      select id, build_id from attempt
      where id = any(${attemptIds}::uuid[]) and build_id is not null and outcome = 0
      order by id for update
    )
    select b.id, b.organization_id, b.drv_path, b.status, b.pending_dependencies, b.transient_failures,
      b.resolution, held.id as attempt_id,
      array(select coalesce(o.store_path, '') from build_output o where o.build_id = held.build_id) as outputs
    from build b left join held on held.build_id = b.id
    where b.id in (
      select build_id from held
      union select e.build_id from build_edge e where e.dependency_id in (select build_id from held)
      ${above})
    order by b.id for no key update of b`.execute(trx);
  return result.rows.filter(({ attempt_id }) => attempt_id !== null);
}

/** How an attempt ended, and what that makes of its build. */
export interface BuildEnd extends Partial<AttemptMetrics> {
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
 * Ends attempts with their builds, in one statement: every output of a build that succeeded is available from then on,
 * the edges above it are satisfied, and what waited for nothing else is ready. The builds are locked
 * (`lockEndingBuilds`); `status` of one that is given back follows from its counter. Returns whether any build is ready
 * now that was not.
 */
export async function recordBuildEnds(trx: Transaction<Database>, ends: readonly BuildEnd[]): Promise<boolean> {
  const result = await sql<{ ready: boolean }>`
    with ends as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(ends)}::jsonb) as r(attempt_id uuid, build_id uuid,
        status smallint, outcome smallint, reason smallint, message text, ran_for_ms bigint, retry_in_ms bigint,
        deterministic boolean, build_ms bigint, cpu_user_ms bigint, cpu_system_ms bigint, peak_memory_bytes bigint,
        io_read_bytes bigint, io_write_bytes bigint)
    ), open as materialized (
      select ends.* from ends join build b on b.id = ends.build_id and b.status = 2
    ), made as (
      update build_output o set available = true
      from open where o.build_id = open.build_id and open.status in (3, 7) and not o.available
    ), satisfied as (
      update build_edge e set satisfied = true
      from open where e.dependency_id = open.build_id and open.status in (3, 7) and not e.satisfied
      returning e.build_id
    ), changed as (
      select build_id, open.status, open.retry_in_ms, open.deterministic, coalesce(freed.count, 0) as freed
      from open full join (select build_id, count(*) from satisfied group by build_id) freed using (build_id)
    ), moved as (
      update build b set
        status = case
          when coalesce(c.status, b.status) in (0, 1) then case when b.pending_dependencies = c.freed then 1 else 0 end
          else coalesce(c.status, b.status) end,
        pending_dependencies = b.pending_dependencies - c.freed,
        ready_at = case
          when b.status <> 1 and coalesce(c.status, b.status) in (0, 1) and b.pending_dependencies = c.freed
          then gradient_now() else b.ready_at end,
        retry_at = case
          when c.status is null then b.retry_at
          else gradient_now() + c.retry_in_ms * interval '1 millisecond' end,
        transient_failures = b.transient_failures + case when c.status = 8 then 1 else 0 end,
        deterministic_failure = coalesce(c.deterministic, b.deterministic_failure),
        updated_at = gradient_now()
      from changed c where b.id = c.build_id
      returning b.status
    ), ended as (
      update attempt set
        outcome = ends.outcome,
        reason = ends.reason,
        message = ends.message,
        started_at = coalesce(started_at, gradient_now() - ends.ran_for_ms * interval '1 millisecond'),
        finished_at = gradient_now(),
        build_ms = ends.build_ms,
        cpu_user_ms = ends.cpu_user_ms,
        cpu_system_ms = ends.cpu_system_ms,
        peak_memory_bytes = ends.peak_memory_bytes,
        io_read_bytes = ends.io_read_bytes,
        io_write_bytes = ends.io_write_bytes
      from ends where attempt.id = ends.attempt_id and attempt.outcome = 0
    )
    select exists (select from moved where status = 1) as ready`.execute(trx);
  return result.rows[0]?.ready ?? false;
}

/**
 * Evaluations that have not ended and link one of these builds: whoever watches them wants to look again. `may_end`:
 * nothing open rests on one of the builds, so that the evaluation may be over now; these are locked, in id order. An
 * evaluation's last build has nothing above it that is open, so none is missed. One that is not building yet is among
 * them: it may begin to build at this moment.
 */
export async function lockEvaluationsAbove(
  trx: Transaction<Database>,
  buildIds: readonly string[],
): Promise<{ readonly id: string; readonly may_end: boolean }[]> {
  const result = await sql<{ id: string; may_end: boolean }>`
    with above as materialized (
      select e.id, bool_or(${nothingOpenAbove}) as may_end
      from evaluation_build l join evaluation e on e.id = l.evaluation_id
      where l.build_id = any(${buildIds}::uuid[]) and e.status in (0, 1, 2, 3, 4, 8)
      group by e.id
    ), locked as materialized (
      select id from evaluation where id in (select id from above where may_end)
        and status in (0, 1, 2, 3, 4, 8)
      order by id for no key update
    )
    select above.id, locked.id is not null as may_end from above left join locked using (id)`.execute(trx);
  return result.rows;
}
