import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface RecordedOutput {
  readonly build_id: string;
  readonly organization_id: string;
  readonly name: string;
  /** Base name. */
  readonly store_path: string;
}

/** Outputs that are recorded as available under one of these paths (base names). */
export async function listRecordedOutputs(
  db: Kysely<Database>,
  storePaths: readonly string[],
  organizationId: string | null = null,
): Promise<RecordedOutput[]> {
  const result = await sql<RecordedOutput>`
    select o.build_id, b.organization_id, o.name, o.store_path
    from build_output o join build b on b.id = o.build_id
    where o.store_path = any(${storePaths}::text[]) and o.available
      and (${organizationId}::uuid is null or b.organization_id = ${organizationId})`.execute(db);
  return result.rows;
}

/** Whether an output that the edge `e` names is not available. */
export const edgeLacksOutput: RawBuilder<boolean> = sql<boolean>`exists (
  select from build_output o where o.build_id = e.dependency_id and o.name = any(e.outputs) and not o.available)`;

/**
 * The open builds (`id`) that wait for an output of the build `d`; `lacks` says of the edge `e` that they do. Here and
 * below each `offset 0` keeps the order, from the edges up: without statistics of a graph that has just been reported
 * PostgreSQL would rather read all builds, for each one anew.
 */
export const openBuildsLacking = (lacks: RawBuilder<boolean> = edgeLacksOutput): RawBuilder<{ id: string }> => sql<{
  id: string;
}>`
  select e.build_id as id
  from (select build_id, dependency_id, outputs from build_edge where dependency_id = d.id offset 0) e
  join lateral (select from build where build.id = e.build_id and status in (0, 1, 2, 8) offset 0) b on true
  where ${lacks}`;

/**
 * Which of these builds are to be opened again because an open build wants what they lack, and what they need in turn,
 * as far down as outputs are missing. A build whose edges nobody recorded ends the way down. `assumeLost`: as if every
 * output of these were gone. `allWanted`: as if an open build wanted each.
 */
export async function listBuildsToReopen(
  db: Kysely<Database>,
  lostIds: readonly string[],
  { assumeLost, allWanted = false }: { readonly assumeLost: boolean; readonly allWanted?: boolean },
): Promise<string[]> {
  const lacks = sql<boolean>`((${assumeLost} and e.dependency_id = any(${lostIds})) or ${edgeLacksOutput})`;
  const result = await sql<{ id: string }>`
    with recursive reopened as (
      select d.id, d.pruned_at from build d
      where d.id = any(${lostIds}) and d.status not in (0, 1, 2, 8)
        and (${allWanted} or exists (${openBuildsLacking(lacks)}))
      union
      select d.id, d.pruned_at
      from reopened r
      cross join lateral (select dependency_id, outputs from build_edge where build_id = r.id offset 0) e
      cross join lateral (
        select id, pruned_at from build where id = e.dependency_id and status not in (0, 1, 2, 8) offset 0) d
      where r.pruned_at is null and ${lacks}
    )
    select id from reopened order by id`.execute(db);
  return result.rows.map(({ id }) => id);
}

export async function markOutputsLost(
  trx: Transaction<Database>,
  outputs: readonly Pick<RecordedOutput, "build_id" | "name">[],
): Promise<string[]> {
  const result = await sql<{ build_id: string }>`
    with gone as (
      update build_output o set available = false
      from jsonb_to_recordset(${JSON.stringify(outputs)}::jsonb) as r(build_id uuid, name text)
      where o.build_id = r.build_id and o.name = r.name and o.available
      returning o.build_id
    )
    insert into output_loss (build_id) select distinct build_id from gone order by build_id
    on conflict (build_id) do nothing
    returning build_id`.execute(trx);
  return result.rows.map(({ build_id }) => build_id);
}

/**
 * Brings what is recorded of these builds' dependencies in line with the outputs: their edges, then their counters, and
 * from these whether they are ready or wait. The caller has locked them, so nobody else moves their edges.
 */
export async function recountBuilds(trx: Transaction<Database>, buildIds: readonly string[]): Promise<void> {
  if (buildIds.length === 0) return;
  await sql`
    update build_edge e set satisfied = not e.satisfied
    where e.build_id = any(${buildIds}) and e.satisfied = ${edgeLacksOutput}`.execute(trx);
  await sql`
    update build b set
      pending_dependencies = fact.pending,
      status = case
        when b.status = 0 and fact.pending = 0 then 1
        when b.status = 1 and fact.pending > 0 then 0
        else b.status end,
      ready_at = case when b.status = 0 and fact.pending = 0 then gradient_now() else b.ready_at end,
      updated_at = gradient_now()
    from (
      select id, (select count(*)::int from build_edge e where e.build_id = build.id and not e.satisfied) as pending
      from build where id = any(${buildIds})
    ) fact
    where b.id = fact.id and (b.pending_dependencies <> fact.pending
      or (b.status = 0 and fact.pending = 0) or (b.status = 1 and fact.pending > 0))`.execute(trx);
}

/** Opens ended builds again whose edges are recorded. The caller has locked them, and recounts them afterwards. */
export async function reopenBuilds(trx: Transaction<Database>, buildIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    update build set status = 0, transient_failures = 0, retry_at = null, deterministic_failure = false,
      updated_at = gradient_now()
    where id = any(${buildIds}) and pruned_at is null and status in (3, 5, 6, 7, 4, 9) and not deterministic_failure
    returning id`.execute(trx);
  return result.rows.map(({ id }) => id);
}

export interface NeededLink {
  readonly evaluation_id: string;
  readonly build_id: string;
}

/**
 * Which active evaluations have to link these builds: those that link an open build above one of them. Their rows are
 * locked, in id order: none of them ends before the transaction does.
 */
export async function lockEvaluationsAbove(
  trx: Transaction<Database>,
  buildIds: readonly string[],
): Promise<NeededLink[]> {
  const result = await sql<NeededLink>`
    with recursive above as (
      select id as build_id, id as above_id from build where id = any(${buildIds})
      union
      select a.build_id, w.id
      from above a cross join lateral (select a.above_id as id) d cross join lateral (${openBuildsLacking()}) w
    )
    select distinct l.evaluation_id, a.build_id
    from above a
    cross join lateral (select evaluation_id from evaluation_build where build_id = a.above_id offset 0) l
    join evaluation v on v.id = l.evaluation_id and v.status in (0, 1, 2, 3, 4, 8)
    where not exists (
      select from evaluation_build own
      where own.evaluation_id = l.evaluation_id and own.build_id = a.build_id)`.execute(trx);
  const active = await sql<{ id: string }>`
    select id from evaluation
    where id = any(${result.rows.map((row) => row.evaluation_id)}::uuid[]) and status in (0, 1, 2, 3, 4, 8)
    order by id for no key update`.execute(trx);
  const ids = new Set(active.rows.map(({ id }) => id));
  return result.rows.filter((row) => ids.has(row.evaluation_id));
}

/** What rests on one of these builds, at most `limit`. */
export async function listDependents(
  db: Kysely<Database>,
  buildIds: readonly string[],
  limit: number,
): Promise<string[]> {
  const result = await sql<{ build_id: string }>`
    select distinct build_id from build_edge where dependency_id = any(${buildIds}) limit ${limit}`.execute(db);
  return result.rows.map(({ build_id }) => build_id);
}

/** Locks the loss that has waited longest, unless another transaction works on it. */
export async function lockNextLoss(trx: Transaction<Database>): Promise<string | undefined> {
  const row = await trx
    .selectFrom("output_loss")
    .select("build_id")
    .orderBy("lost_at")
    .limit(1)
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
  return row?.build_id;
}

/** Dependents whose edge does not say yet what the outputs are. Not locked. */
export async function listUntoldDependents(db: Kysely<Database>, buildId: string, limit: number): Promise<string[]> {
  const result = await sql<{ build_id: string }>`
    select e.build_id from build_edge e
    where e.dependency_id = ${buildId} and e.satisfied = ${edgeLacksOutput}
    order by e.build_id limit ${limit}`.execute(db);
  return result.rows.map(({ build_id }) => build_id);
}

export async function deleteLosses(trx: Transaction<Database>, buildIds: readonly string[]): Promise<void> {
  await trx.deleteFrom("output_loss").where("build_id", "=", sql<string>`any(${buildIds}::uuid[])`).execute();
}

/**
 * Recorded as available, and lately found damaged, lost by an upstream, or without what they refer to. Base names; some
 * cache may have them.
 */
export async function listSuspectPaths(db: Kysely<Database>, limit: number): Promise<string[]> {
  // Each found by an index of its own, and only then looked up: whatever PostgreSQL knows of the sizes of tables, it
  // must not read all paths every few seconds to find that nothing is wrong with them.
  const result = await sql<{ store_path: string }>`
    with damaged as materialized (
      select nar_hash from nar where damaged_at > (select gradient_now() - interval '1 hour')
    ), incomplete as materialized (
      select store_path from cache_path where incomplete_at > (select gradient_now() - interval '1 hour')
    ), suspect as materialized (
      select p.store_path from damaged cross join lateral (
        select store_path from cache_path where nar_hash = damaged.nar_hash offset 0) p
      union
      select u.store_path from upstream_path u
      where not u.found and u.store_path is not null and u.seen_at > gradient_now() - interval '1 hour'
      union
      select store_path from incomplete
    )
    select suspect.store_path from suspect cross join lateral (
      select from build_output o where o.store_path = suspect.store_path and o.available limit 1) known
    limit ${limit}`.execute(db);
  return result.rows.map((row) => row.store_path);
}
