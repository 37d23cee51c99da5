import { type Kysely, sql } from "kysely";
import type { BuildNeed } from "../domain/scheduling/eligibility.ts";
import type { Database } from "./schema.ts";

/** Builds of one need and one priority are one queue, longest ready first. */
export interface ReadyQueue extends BuildNeed {
  readonly priority: number;
}

/**
 * Every queue that has a ready build. Hops from one queue to the next in `build_queue_idx`: the cost goes with the
 * number of queues, not of builds. At most `limit`.
 */
export async function listReadyQueues(db: Kysely<Database>, limit: number): Promise<ReadyQueue[]> {
  const { rows } = await sql<ReadyQueue>`
    with recursive queue as (
      (select organization_id, system, required_features, priority from build where status = 1
        order by organization_id, system, required_features, priority limit 1)
      union all
      select next.* from queue cross join lateral (
        select b.organization_id, b.system, b.required_features, b.priority from build b
        where b.status = 1 and (b.organization_id, b.system, b.required_features, b.priority)
          > (queue.organization_id, queue.system, queue.required_features, queue.priority)
        order by b.organization_id, b.system, b.required_features, b.priority limit 1) next
    )
    select organization_id as "organizationId", system, required_features as "requiredFeatures", priority
    from queue limit ${limit}`.execute(db);
  return rows;
}

export interface CandidateRow extends ReadyQueue {
  readonly id: string;
  readonly waited_ms: number;
  readonly prefer_local_build: boolean;
  readonly timeout_seconds: number | null;
  readonly max_silent_seconds: number | null;
  /** Builds that wait for it directly, counted up to `dependentsMax`. */
  readonly dependents: number;
  /** What builds of the package took lately, newest last. Null for the first. */
  readonly durations_ms: readonly number[] | null;
  readonly peak_memory_mb: number | null;
  /** Workers on which it failed, of its last attempts. */
  readonly failed_workers: readonly string[];
  /** What it needs directly; at most 64 of that. */
  readonly needs: readonly { readonly id: string; readonly outputs: readonly string[] }[];
}

/**
 * The first builds of each queue, with what rules go by. One index range a queue: a queue's length does not matter, and
 * none hides another. Nothing is locked: what another server takes meanwhile is left out by `claimBuilds`. None while
 * the instance drains.
 */
export async function listCandidates(
  db: Kysely<Database>,
  queues: readonly (ReadyQueue & { readonly limit: number })[],
  { dependentsMax }: { readonly dependentsMax: number },
): Promise<CandidateRow[]> {
  if (queues.length === 0) return [];
  const { rows } = await sql<CandidateRow>`
    select b.*, h.durations_ms::float8[] as durations_ms, h.peak_memory_mb,
      (select count(*)::int from (
        select from build_edge e
        where e.dependency_id = b.id and not e.satisfied limit ${dependentsMax}) d) as dependents,
      case when b.transient_failures = 0 then '{}' else array(
        select a.worker_id from attempt a where a.build_id = b.id and a.outcome = 3
        order by a.assigned_at desc limit 8) end as failed_workers,
      coalesce((
        select jsonb_agg(jsonb_build_object('id', e.dependency_id, 'outputs', e.outputs)) from (
          select dependency_id, outputs from build_edge where build_id = b.id limit 64) e), '[]') as needs
    from jsonb_to_recordset(${JSON.stringify(queues)}::jsonb) as q("organizationId" uuid, system text,
      "requiredFeatures" text[], priority integer, "limit" integer)
    cross join lateral (
      select id, organization_id as "organizationId", system, required_features as "requiredFeatures", priority, name,
        prefer_local_build, timeout_seconds, max_silent_seconds, transient_failures,
        greatest(extract(epoch from gradient_now() - coalesce(ready_at, updated_at)) * 1000, 0)::float8 as waited_ms
      from build
      -- One with a lease is a fault, which the audit mends; until then it must not stop the whole pass.
      where status = 1 and resolution <> 1 and organization_id = q."organizationId" and system = q.system
        and required_features = q."requiredFeatures" and priority = q.priority
        and not exists (select from attempt a where a.build_id = build.id and a.finished_at is null)
        and (select draining_since is null from scheduler_state)
      order by organization_id, system, required_features, priority, ready_at, id limit q."limit") b
    left join build_history h on h.organization_id = b."organizationId" and h.system = b.system
      and h.package_name = gradient_package_name(b.name)`.execute(db);
  return rows;
}

/** Where a build's outputs were made, and how large they are. */
export interface BuildOrigin {
  readonly id: string;
  /** The worker that built it last; null where none did. */
  readonly worker: string | null;
  /** By output: the size of its NAR, where a cache of the organization has it. */
  readonly bytes: Readonly<Record<string, number>>;
}

export async function listOrigins(db: Kysely<Database>, buildIds: readonly string[]): Promise<BuildOrigin[]> {
  if (buildIds.length === 0) return [];
  const { rows } = await sql<BuildOrigin>`
    select b.id,
      (select a.worker_id from attempt a
        where a.build_id = b.id and a.outcome in (1, 2) order by a.assigned_at desc limit 1) as worker,
      coalesce((
        select jsonb_object_agg(o.name, stored.nar_size) from build_output o cross join lateral (
          select n.nar_size from organization_cache s
          join cache_path p on p.cache_id = s.cache_id and p.hash = left(o.store_path, 32)
          join nar n on n.nar_hash = p.nar_hash
          where s.organization_id = b.organization_id limit 1) stored
        where o.build_id = b.id), '{}') as bytes
    from build b where b.id = any(${buildIds}::uuid[])`.execute(db);
  return rows;
}

/** How many builds each organization has running, of all workers and servers. */
export async function countRunningBuilds(db: Kysely<Database>): Promise<ReadonlyMap<string, number>> {
  const { rows } = await sql<{ organization_id: string; count: number }>`
    select organization_id, count(*)::int as count from attempt where finished_at is null and build_id is not null
    group by organization_id`.execute(db);
  return new Map(rows.map((row) => [row.organization_id, row.count]));
}
