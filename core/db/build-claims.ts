import { type Kysely, sql, type Transaction } from "kysely";
import { leaseEnd } from "./leases.ts";
import type { Database } from "./schema.ts";
import type { DispatchScore } from "./tables/scheduling.ts";

/** One ready build and the worker that is to have it. */
export interface BuildClaim {
  readonly buildId: string;
  readonly attemptId: string;
  readonly workerId: string;
  /** The worker has to end it within this time, whatever else it does; null sets no limit. */
  readonly deadlineMs: number | null;
  readonly score: DispatchScore | null;
}

export interface ClaimedBuild {
  readonly id: string;
  readonly attemptId: string;
  readonly workerId: string;
  readonly organization_id: string;
  readonly drv_path: string;
  readonly timeout_seconds: number | null;
  readonly max_silent_seconds: number | null;
}

/**
 * Gives all of these builds out in one statement, each with a lease. Left out is what another server has taken, or
 * somebody has locked, since it was looked at: it is skipped and not waited for. Answers what was given out.
 */
export async function claimBuilds(
  trx: Transaction<Database>,
  claims: readonly BuildClaim[],
  leaseMs: number,
): Promise<ClaimedBuild[]> {
  const { rows } = await sql<ClaimedBuild>`
    with chosen as (
      select * from jsonb_to_recordset(${JSON.stringify(claims)}::jsonb)
        as c("buildId" uuid, "attemptId" uuid, "workerId" uuid, "deadlineMs" float8, score jsonb)
    ), free as (
      select id from build where status = 1 and resolution <> 1 and id in (select "buildId" from chosen)
      order by id for no key update skip locked
    ), taken as (
      update build set status = 2, updated_at = gradient_now()
      from free where build.id = free.id
      returning build.id, build.organization_id, build.drv_path, build.timeout_seconds, build.max_silent_seconds
    ), leased as (
      insert into attempt (id, kind, organization_id, build_id, worker_id, lease_expires_at, deadline_at, score)
      select c."attemptId", 1, t.organization_id, t.id, c."workerId",
        ${leaseEnd(leaseMs)},
        gradient_now() + c."deadlineMs" * interval '1 millisecond', c.score
      from taken t join chosen c on c."buildId" = t.id
    )
    select t.*, c."attemptId", c."workerId" from taken t join chosen c on c."buildId" = t.id`.execute(trx);
  return rows;
}

export interface BuildInputs {
  /** Base name of what is built: the build's own derivation, or what that was resolved to. */
  readonly built_drv_path: string;
  readonly aterm: Uint8Array;
  /** Base names: outputs of dependencies that are needed, and input sources. */
  readonly inputs: readonly string[];
}

/**
 * What a worker needs for each of these builds. Every dependency's needed output has a path by now. `offset 0` keeps
 * the planner from joining whole tables while it has no statistics of a graph that has just been reported.
 */
export async function loadBuildInputs(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<ReadonlyMap<string, BuildInputs>> {
  const { rows } = await sql<BuildInputs & { readonly build_id: string }>`
    select d.build_id, coalesce(r.aterm, d.aterm) as aterm, coalesce(r.drv_path, b.drv_path) as built_drv_path, array(
      select o.store_path
      from build_edge e cross join lateral (
        select store_path from build_output
        where build_id = e.dependency_id and name = any(e.outputs) and store_path is not null offset 0) o
      where e.build_id = d.build_id
      union
      select s.store_path from build_source s where s.build_id = d.build_id) as inputs
    from build_derivation d join build b on b.id = d.build_id
    left join build_resolution r on r.build_id = d.build_id and b.resolution = 2
    where d.build_id = any(${buildIds}::uuid[])`.execute(db);
  return new Map(rows.map(({ build_id, ...rest }) => [build_id, rest]));
}

/** Evaluations that waited for nothing but a worker for these builds go on building. Returns all that link them. */
export async function resumeEvaluationsOf(trx: Transaction<Database>, buildIds: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ id: string; waits: boolean }>`
    select distinct e.id, e.status = 4 and e.building_started_at is not null
      and e.waiting_reason ->> 'kind' in ('workers', 'draining') as waits
    from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where l.build_id = any(${buildIds}::uuid[]) and l.outcome is null and e.status in (0, 1, 2, 3, 4, 8)
    order by e.id`.execute(trx);
  const waiting = rows.filter(({ waits }) => waits).map(({ id }) => id);
  if (waiting.length > 0) {
    await sql`
      update evaluation e set status = 3, waiting_reason = null, updated_at = gradient_now()
      from (select id from evaluation where id = any(${waiting}::uuid[]) and status = 4
        order by id for no key update) locked
      where e.id = locked.id`.execute(trx);
  }
  return rows.map(({ id }) => id);
}
