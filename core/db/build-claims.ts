import { type Kysely, sql } from "kysely";
import { leaseEnd } from "./leases.ts";
import type { Database } from "./schema.ts";
import type { DispatchScore } from "./tables/scheduling.ts";
import { commitsLater } from "./transaction.ts";

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
  /** Base name of what is built: the build's own derivation, or what that was resolved to. */
  readonly built_drv_path: string;
  readonly aterm: Uint8Array;
  /** Base names: outputs of dependencies that are needed, which all have paths by now, and input sources. */
  readonly inputs: readonly string[];
}

export interface ClaimedBuilds {
  readonly builds: readonly ClaimedBuild[];
  /** Those that link any of these builds and have not ended: whoever watches them wants to look again. */
  readonly evaluationIds: readonly string[];
}

/**
 * Gives all of these builds out, each with a lease, and answers what their workers need. Left out is what another
 * server has taken, or somebody has locked, since it was looked at: it is skipped and not waited for. Evaluations that
 * waited for nothing but a worker for these builds go on building.
 *
 * All in one statement, which needs no transaction around it: assigning a build costs little else. `offset 0` keeps the
 * planner from joining whole tables while it has no statistics of a graph that has just been reported.
 *
 * It is seen by all at once, and durable only a moment later (`commitsLater`): a database that dies in between gives
 * these builds out again, and refuses what comes of the leases that it has forgotten.
 */
export async function claimBuilds(
  db: Kysely<Database>,
  claims: readonly BuildClaim[],
  leaseMs: number,
): Promise<ClaimedBuilds> {
  const { rows } = await sql<ClaimedBuild & { readonly evaluation_ids: readonly string[] | null }>`
    with later as materialized (select ${commitsLater}), chosen as (
      select * from jsonb_to_recordset(${JSON.stringify(claims)}::jsonb)
        as c("buildId" uuid, "attemptId" uuid, "workerId" uuid, "deadlineMs" float8, score jsonb)
    ), free as (
      select id from build where status = 1 and resolution <> 1 and id in (select "buildId" from chosen)
      order by id for no key update skip locked
    ), taken as (
      update build set status = 2, updated_at = gradient_now()
      from free where build.id = free.id
      returning build.id, build.organization_id, build.drv_path, build.timeout_seconds, build.max_silent_seconds,
        build.resolution
    ), leased as (
      insert into attempt (id, kind, organization_id, build_id, worker_id, lease_expires_at, deadline_at, score)
      select c."attemptId", 1, t.organization_id, t.id, c."workerId",
        ${leaseEnd(leaseMs)},
        gradient_now() + c."deadlineMs" * interval '1 millisecond', c.score
      from taken t join chosen c on c."buildId" = t.id
    ), above as materialized (
      select e.id, e.status = 4 and e.building_started_at is not null
        and e.waiting_reason ->> 'kind' in ('workers', 'draining') as waits
      from taken t
      join lateral (select evaluation_id from evaluation_build
        where build_id = t.id and outcome is null offset 0) l on true
      join evaluation e on e.id = l.evaluation_id and e.status in (0, 1, 2, 3, 4, 8)
      group by e.id
    ), resumed as (
      update evaluation e set status = 3, waiting_reason = null, updated_at = gradient_now()
      from (select id from evaluation where id in (select id from above where waits) and status = 4
        order by id for no key update) locked
      where e.id = locked.id
    )
    select t.id, t.organization_id, t.drv_path, t.timeout_seconds, t.max_silent_seconds, c."attemptId", c."workerId",
      coalesce(r.aterm, d.aterm) as aterm, coalesce(r.drv_path, t.drv_path) as built_drv_path,
      array(
        select o.store_path
        from build_edge e cross join lateral (
          select store_path from build_output
          where build_id = e.dependency_id and name = any(e.outputs) and store_path is not null offset 0) o
        where e.build_id = t.id
        union
        select s.store_path from build_source s where s.build_id = t.id) as inputs,
      -- Said once.
      case when row_number() over () = 1 then (select array_agg(above.id order by above.id) from above) end
        as evaluation_ids
    from later cross join taken t join chosen c on c."buildId" = t.id
    join lateral (select aterm from build_derivation where build_id = t.id offset 0) d on true
    left join build_resolution r on r.build_id = t.id and t.resolution = 2`.execute(db);
  return {
    builds: rows.map(({ evaluation_ids: _, ...build }) => build),
    evaluationIds: rows.find(({ evaluation_ids }) => evaluation_ids !== null)?.evaluation_ids ?? [],
  };
}
