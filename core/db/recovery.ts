import { type Kysely, sql, type Transaction } from "kysely";
import type { WaitingReason } from "../domain/scheduling/waiting-reason.ts";
import { openBuildsLacking } from "./loss.ts";
import type { Database } from "./schema.ts";
import { databaseNowPlus } from "./time.ts";

/** An evaluation that waits for what only evaluating its commit again brings back. */
export interface StuckEvaluation {
  /** The build whose edges or sources are to be recovered. */
  readonly build_id: string;
  readonly drv_path: string;
  readonly evaluation_id: string;
  /** What it rests on is still being found out. */
  readonly evaluating: boolean;
  /** The evaluation itself, or for a recovery the one that it recovers. */
  readonly root_id: string;
}

/** Of these builds, those that nobody recorded the edges of and that an open build waits for are to be recovered. */
export async function insertRecoveryNeeds(trx: Transaction<Database>, buildIds: readonly string[]): Promise<void> {
  await sql`
    insert into recovery_need (build_id)
    select id from build where id = any(${buildIds}) and pruned_at is not null and status not in (0, 1, 2, 8)
    order by id on conflict (build_id) do nothing`.execute(trx);
}

export async function hasRecoveryNeeds(db: Kysely<Database>): Promise<boolean> {
  return (await db.selectFrom("recovery_need").select("build_id").limit(1).executeTakeFirst()) !== undefined;
}

/** An open build of which an input source, which no build makes, is in no store of its organization. */
export async function insertSourceNeed(db: Kysely<Database>, buildId: string): Promise<boolean> {
  const result = await sql`
    insert into recovery_need (build_id) select d.id from build d where d.id = ${buildId} and ${lacksSource}
    on conflict (build_id) do nothing`.execute(db);
  return (result.numAffectedRows ?? 0n) > 0n;
}

/**
 * Needs that are over: the edges were recorded, an output or a source came back, or nobody waits any more. A build that
 * has its sources again is tried at once.
 */
export async function deleteMetNeeds(db: Kysely<Database>): Promise<void> {
  await sql`
    with met as (
      delete from recovery_need n where not exists (
        select from build d where d.id = n.build_id and (${lacksSource} or (
          d.pruned_at is not null and d.status in (3, 5, 7) and exists (${openBuildsLacking()}))))
      returning build_id
    )
    update build set retry_at = gradient_now()
    where id in (
      select id from build where id in (select build_id from met) and status = 8
      order by id for no key update)`.execute(db);
}

/** Builds that lack a source are not tried in vain meanwhile. */
export async function holdBackRetries(db: Kysely<Database>, pauseMs: number): Promise<void> {
  await sql`
    update build set retry_at = ${databaseNowPlus(pauseMs)}
    where id in (
      select id from build where status = 8 and retry_at < ${databaseNowPlus(pauseMs / 2)}
        and id in (select build_id from recovery_need)
      order by id for no key update)`.execute(db);
}

const lacksSource = sql`(d.status in (0, 1, 2, 8) and exists (
  select from build_source s where s.build_id = d.id and not exists (
    select from cache_path p join nar n on n.nar_hash = p.nar_hash and n.damaged_at is null
    join cache c on c.id = p.cache_id and c.active
    left join organization_cache o on o.cache_id = c.id and o.organization_id = d.organization_id
    where p.hash = left(s.store_path, 32) and p.store_path = s.store_path
      and ((c.kind = 1 and c.organization_id = d.organization_id) or (c.kind = 0 and o.mode in (0, 1))))))`;

/** The evaluation `v` has not been evaluated. One that waits may do so for builds. */
const isEvaluating = sql`(v.status in (0, 1, 2, 8) or (v.status = 4 and v.building_started_at is null))`;

/** The active evaluations behind each need, oldest need first. */
export async function listStuckEvaluations(db: Kysely<Database>, limit: number): Promise<StuckEvaluation[]> {
  const result = await sql<StuckEvaluation>`
    select distinct n.since, n.build_id, d.drv_path, v.id as evaluation_id, ${isEvaluating} as evaluating, v.ordinal,
      coalesce(v.recovers_id, v.id) as root_id
    from recovery_need n join build d on d.id = n.build_id
    cross join lateral (
      ${openBuildsLacking()} and d.status in (3, 5, 7)
      union all
      select d.id where d.status in (0, 1, 2, 8)
    ) w
    cross join lateral (select evaluation_id from evaluation_build where build_id = w.id offset 0) l
    join evaluation v on v.id = l.evaluation_id and v.status in (0, 1, 2, 3, 4, 8)
    order by n.since, n.build_id, v.ordinal
    limit ${limit}`.execute(db);
  return result.rows;
}

export interface RecoveryRound {
  readonly root_id: string;
  readonly id: string;
  readonly evaluating: boolean;
}

/** Every recovery of these evaluations there has been, the newest first. */
export async function listRecoveries(db: Kysely<Database>, rootIds: readonly string[]): Promise<RecoveryRound[]> {
  const result = await sql<RecoveryRound>`
    select recovers_id as root_id, id, ${isEvaluating} as evaluating from evaluation v
    where recovers_id = any(${rootIds}::uuid[]) order by ordinal desc`.execute(db);
  return result.rows;
}

/** A queued evaluation of the same commit, beside whatever else its project does. False when the root is gone. */
export async function insertRecovery(trx: Transaction<Database>, id: string, rootId: string): Promise<boolean> {
  const result = await sql<{ id: string }>`
    insert into evaluation (id, organization_id, project_id, repository, commit_hash, commit_message, commit_author,
      wildcard, input_overrides, kind, recovers_id, status, trusted, concurrent, priority, previous_id, started_by,
      branch)
    select ${id}, organization_id, project_id, repository, commit_hash, commit_message, commit_author,
      wildcard, input_overrides, 2, id, 0, trusted, true, priority, id, started_by, branch
    from evaluation where id = ${rootId}
    returning id`.execute(trx);
  return result.rows.length > 0;
}

/** Shows these building evaluations' reason, where they give no other. */
export async function showRecovery(
  db: Kysely<Database>,
  evaluationIds: readonly string[],
  reason: Extract<WaitingReason, { kind: "recovery" }>,
): Promise<void> {
  await sql`
    update evaluation set waiting_reason = ${JSON.stringify(reason)}::jsonb, updated_at = gradient_now()
    where id in (
      select id from evaluation
      where id = any(${evaluationIds}) and status = 3
        and (waiting_reason is null or waiting_reason ->> 'kind' = 'recovery')
        and waiting_reason is distinct from ${JSON.stringify(reason)}::jsonb
      order by id for no key update)`.execute(db);
}

/** Takes the reason back from evaluations that wait for no recovery. Returns them. */
export async function hideRecovery(db: Kysely<Database>, stuckIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    update evaluation set waiting_reason = null, updated_at = gradient_now()
    where id in (
      select id from evaluation
      where waiting_reason is not null and waiting_reason ->> 'kind' = 'recovery' and id <> all(${stuckIds}::uuid[])
      order by id for no key update)
    returning id`.execute(db);
  return result.rows.map(({ id }) => id);
}
