import { type Kysely, sql, type Transaction } from "kysely";
import { GIGABYTE } from "../domain/retention.ts";
import type { BuildNeed } from "../domain/scheduling/eligibility.ts";
import type { WaitingReason } from "../domain/scheduling/waiting-reason.ts";
import type { Database } from "./schema.ts";

/** A cache `c` that takes builds and has room for more. */
const hasRoom = sql`(c.max_storage_gb = 0 or c.max_storage_gb::float8 * ${GIGABYTE} > (
  select coalesce(sum(u.bytes), 0) from cache_usage u where u.cache_id = c.id))`;

const writableCaches = (organizationId: ReturnType<typeof sql>) => sql`
  select from organization_cache s join cache c on c.id = s.cache_id
  where s.organization_id = ${organizationId} and s.mode in (0, 2) and c.active and c.kind = 0`;

/** Why builds of the organization would have no cache to go to, or null. */
export async function findCacheObstacle(
  db: Kysely<Database>,
  organizationId: string,
): Promise<"no_cache" | "cache_storage_full" | null> {
  const { rows } = await sql<{ writable: boolean; room: boolean }>`
    select exists (${writableCaches(sql`${organizationId}`)}) as writable,
      exists (${writableCaches(sql`${organizationId}`)} and ${hasRoom}) as room`.execute(db);
  if (rows[0]?.room) return null;
  return rows[0]?.writable ? "cache_storage_full" : "no_cache";
}

/**
 * Evaluations that waited for a cache or for room in one, and whose organization has both by now, are queued; others
 * change from one reason to the other. Returns those that are queued. Each organization is looked at once, and locks
 * come in id order.
 */
export async function queueEvaluationsWithCache(
  db: Kysely<Database>,
): Promise<readonly { readonly id: string; readonly organization_id: string }[]> {
  const { rows } = await sql<{ id: string; organization_id: string; status: number }>`
    with waiting as materialized (
      select e.id, e.organization_id, e.waiting_reason ->> 'kind' as kind from evaluation e
      where e.waiting_reason is not null and e.status = 4
        and e.waiting_reason ->> 'kind' in ('no_cache', 'cache_storage_full')
    ), cached as materialized (
      select o.id, exists (${writableCaches(sql`o.id`)}) as writable,
        exists (${writableCaches(sql`o.id`)} and ${hasRoom}) as room
      from (select distinct organization_id as id from waiting) o
    ), changed as materialized (
      select e.id, w.kind, c.writable, c.room
      from waiting w join cached c on c.id = w.organization_id join evaluation e on e.id = w.id
      where c.room or c.writable <> (w.kind = 'cache_storage_full')
      order by e.id for no key update of e
    )
    update evaluation e set
      status = case when c.room then 0 else 4 end,
      waiting_reason = case when not c.room
        then jsonb_build_object('kind', case when c.writable then 'cache_storage_full' else 'no_cache' end) end,
      updated_at = gradient_now()
    from changed c
    where e.id = c.id and e.status = 4 and e.waiting_reason ->> 'kind' = c.kind
    returning e.id, e.organization_id, e.status`.execute(db);
  return rows.filter(({ status }) => status === 0);
}

export interface WaitingCandidate {
  readonly id: string;
  readonly organizationId: string;
  readonly status: number;
  readonly reason: WaitingReason | null;
  /** It has been evaluated: what it waits for are builds. */
  readonly building: boolean;
  /** Its source is in the organization's internal store. */
  readonly fetched: boolean;
  readonly trusted: boolean;
}

/** Evaluations that are queued, or for whose waiting the scheduler has given a reason. */
export async function listWaitingEvaluations(db: Kysely<Database>): Promise<WaitingCandidate[]> {
  const { rows } = await sql<WaitingCandidate>`
    select id, organization_id as "organizationId", status, waiting_reason as reason,
      building_started_at is not null and status <> 0 as building, source is not null as fetched, trusted
    from evaluation where status = 0
    union all
    select id, organization_id, status, waiting_reason,
      building_started_at is not null and waiting_reason ->> 'kind' <> 'eval_workers', source is not null, trusted
    from evaluation
    where waiting_reason is not null and status in (3, 4)
      and waiting_reason ->> 'kind' in ('draining', 'eval_workers', 'workers')`.execute(db);
  return rows;
}

export interface BlockedBuilds {
  readonly evaluationId: string;
  readonly organizationId: string;
  readonly status: number;
  readonly reason: WaitingReason | null;
  readonly system: string;
  readonly requiredFeatures: readonly string[];
  readonly count: number;
}

const unmetRows = (unmet: readonly BuildNeed[]) => sql`
  select * from jsonb_to_recordset(${JSON.stringify(unmet)}::jsonb)
    as u("organizationId" uuid, system text, "requiredFeatures" text[])`;

/** Ready builds of evaluations that build, with a need that is not met: counted by evaluation and need. */
export async function countBlockedBuilds(db: Kysely<Database>, unmet: readonly BuildNeed[]): Promise<BlockedBuilds[]> {
  if (unmet.length === 0) return [];
  const { rows } = await sql<BlockedBuilds>`
    with blocked as materialized (
      select b.id, b.system, b.required_features from (${unmetRows(unmet)}) u cross join lateral (
        select id, system, required_features from build
        where status = 1 and organization_id = u."organizationId" and system = u.system
          and required_features = u."requiredFeatures") b)
    select e.id as "evaluationId", e.organization_id as "organizationId", e.status, e.waiting_reason as reason,
      b.system, b.required_features as "requiredFeatures", count(*)::int as count
    from blocked b
    join evaluation_build l on l.build_id = b.id and l.outcome is null
    join evaluation e on e.id = l.evaluation_id and (e.status = 3 or (e.status = 4 and e.building_started_at is not null
      and e.waiting_reason ->> 'kind' in ('draining', 'workers')))
    group by e.id, b.system, b.required_features`.execute(db);
  return rows;
}

/** Of these evaluations, those of which a build runs, is tried again soon, or would be given out to a free place. */
export async function listGoingOn(
  db: Kysely<Database>,
  evaluationIds: readonly string[],
  unmet: readonly BuildNeed[],
): Promise<ReadonlySet<string>> {
  if (evaluationIds.length === 0) return new Set();
  const { rows } = await sql<{ id: string }>`
    with unmet as materialized (${unmetRows(unmet)})
    select e.id from unnest(${evaluationIds}::uuid[]) as e(id)
    where exists (
      select from evaluation_build l join build b on b.id = l.build_id
      where l.evaluation_id = e.id and l.outcome is null and (b.status in (2, 8) or (b.status = 1 and not exists (
        select from unmet u where u."organizationId" = b.organization_id and u.system = b.system
          and u."requiredFeatures" = b.required_features))))`.execute(db);
  return new Set(rows.map(({ id }) => id));
}

export interface WaitingChange {
  readonly id: string;
  /** As it was looked at; an evaluation that is otherwise by now stays as it is. */
  readonly before: { readonly status: number; readonly reason: WaitingReason | null };
  readonly status: number;
  readonly reason: WaitingReason | null;
}

/** Writes what has changed. Answers which. */
export async function updateWaiting(trx: Transaction<Database>, changes: readonly WaitingChange[]): Promise<string[]> {
  if (changes.length === 0) return [];
  const { rows } = await sql<{ id: string }>`
    update evaluation e set status = r.status, waiting_reason = r.reason, updated_at = gradient_now()
    from (
      select id from evaluation where id = any(${changes.map(({ id }) => id)}::uuid[]) order by id for no key update
    ) locked join jsonb_to_recordset(${JSON.stringify(changes)}::jsonb)
      as r(id uuid, status smallint, reason jsonb, before jsonb) on r.id = locked.id
    where e.id = locked.id and e.status = (r.before ->> 'status')::smallint
      and coalesce(e.waiting_reason, 'null') = r.before -> 'reason'
    returning e.id`.execute(trx);
  return rows.map(({ id }) => id);
}
