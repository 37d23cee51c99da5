import { type Kysely, type RawBuilder, sql } from "kysely";
import type { Database } from "./schema.ts";
import type { DispatchScore } from "./tables/scheduling.ts";

/** Whose jobs are shown. Those of public organizations always are. */
export interface BoardScope {
  readonly everything: boolean;
  /** Jobs of the organizations that this user belongs to, with a role that holds one of `permissions`. */
  readonly userId: string | null;
  readonly permissions: number;
  /** Of these only this one. */
  readonly organizationId: string | null;
}

const isMember = ({
  everything,
  userId,
  permissions,
  organizationId,
}: BoardScope): RawBuilder<boolean> => sql<boolean>`(
  ${everything}::boolean or exists (
    select from organization_member m join role r on r.id = m.role_id
    where m.organization_id = o.id and m.user_id = ${userId} and (r.permissions & ${permissions}::integer) <> 0
      and (${organizationId}::uuid is null or m.organization_id = ${organizationId})))`;

const isShown = (scope: BoardScope): RawBuilder<boolean> => sql<boolean>`(o.public or ${isMember(scope)})`;

export interface BoardJobRow {
  readonly id: string;
  readonly kind: number;
  readonly organization_id: string;
  readonly organization_name: string;
  readonly member: boolean;
  readonly worker_id: string;
  readonly score: DispatchScore | null;
  readonly assigned_at: Date;
  readonly finished_at: Date | null;
  readonly link_id: string | null;
  readonly evaluation_id: string | null;
  readonly package_name: string | null;
  readonly subject_id: string;
}

const jobs = (scope: BoardScope, condition: RawBuilder<unknown>) => sql<BoardJobRow>`
  select a.id, a.kind, a.organization_id, o.name as organization_name, ${isMember(scope)} as member, a.worker_id,
    a.score, a.assigned_at, a.finished_at, l.id as link_id, coalesce(a.evaluation_id, l.evaluation_id) as evaluation_id,
    gradient_package_name(b.name) as package_name, coalesce(a.build_id, a.evaluation_id) as subject_id
  from attempt a
  join organization o on o.id = a.organization_id
  left join build b on b.id = a.build_id
  left join lateral (
    select id, evaluation_id from evaluation_build where build_id = a.build_id
    order by created_at desc, id desc limit 1) l on true
  where ${isShown(scope)} and ${condition}`;

/** What runs, newest first. */
export async function listRunningJobs(db: Kysely<Database>, scope: BoardScope, limit: number): Promise<BoardJobRow[]> {
  const { rows } = await sql<BoardJobRow>`
    ${jobs(scope, sql`a.finished_at is null`)} order by a.id desc limit ${limit}`.execute(db);
  return rows;
}

export async function countHiddenRunning(db: Kysely<Database>, scope: BoardScope): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from attempt a join organization o on o.id = a.organization_id
    where a.finished_at is null and not ${isShown(scope)}`.execute(db);
  return rows[0]?.count ?? 0;
}

export async function findJob(db: Kysely<Database>, scope: BoardScope, id: string): Promise<BoardJobRow | undefined> {
  return (await jobs(scope, sql`a.id = ${id}`).execute(db)).rows[0];
}

export interface EarlierAttempt {
  readonly id: string;
  readonly outcome: number;
  readonly reason: number | null;
  readonly message: string | null;
  readonly assigned_at: Date;
}

/** Of the same build or evaluation, newest first. */
export async function listEarlierAttempts(
  db: Kysely<Database>,
  job: Pick<BoardJobRow, "id" | "kind" | "subject_id" | "assigned_at">,
  limit: number,
): Promise<EarlierAttempt[]> {
  const subject = job.kind === 1 ? sql`build_id` : sql`evaluation_id`;
  const { rows } = await sql<EarlierAttempt>`
    select id, outcome, reason, message, assigned_at from attempt
    where ${subject} = ${job.subject_id} and id <> ${job.id} and assigned_at <= ${job.assigned_at}
    order by assigned_at desc, id desc limit ${limit}`.execute(db);
  return rows;
}

export interface PendingRow {
  readonly kind: number;
  readonly organization_id: string;
  readonly link_id: string | null;
  readonly evaluation_id: string | null;
  readonly queued_at: Date;
  readonly dependency_count: number;
  readonly package_name: string | null;
}

/** Queued evaluations, and then ready builds, each longest ready first. */
export async function listPendingJobs(db: Kysely<Database>, scope: BoardScope, limit: number): Promise<PendingRow[]> {
  const { rows } = await sql<PendingRow>`
    (select 0 as kind, e.organization_id, null::uuid as link_id, e.id as evaluation_id, e.created_at as queued_at,
      0 as dependency_count, null as package_name
    from evaluation e join organization o on o.id = e.organization_id
    where e.status = 0 and ${isShown(scope)} order by e.ordinal limit ${limit})
    union all
    (select 1, b.organization_id, l.id, l.evaluation_id, coalesce(b.ready_at, b.updated_at),
      (select count(*)::int from build_edge d where d.build_id = b.id), gradient_package_name(b.name)
    from (
      select b.* from build b join organization o on o.id = b.organization_id
      where b.status = 1 and ${isShown(scope)} order by b.ready_at limit ${limit}) b
    left join lateral (
      select id, evaluation_id from evaluation_build where build_id = b.id
      order by created_at desc, id desc limit 1) l on true)
    order by kind, queued_at limit ${limit}`.execute(db);
  return rows;
}

export async function countHiddenPending(db: Kysely<Database>, scope: BoardScope, max: number): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from (
      select from build b join organization o on o.id = b.organization_id
      where b.status = 1 and not ${isShown(scope)} limit ${max}) hidden`.execute(db);
  return rows[0]?.count ?? 0;
}

/** The points of the newest assignments of builds. */
export async function listScores(
  db: Kysely<Database>,
  scope: BoardScope,
  { windowHours, limit }: { readonly windowHours: number; readonly limit: number },
): Promise<Pick<DispatchScore, "total" | "rules">[]> {
  const { rows } = await sql<Pick<DispatchScore, "total" | "rules">>`
    select (a.score ->> 'total')::float8 as total, a.score -> 'rules' as rules
    from attempt a join organization o on o.id = a.organization_id
    where a.kind = 1 and a.score is not null and a.assigned_at > gradient_now() - ${windowHours} * interval '1 hour'
      and ${isShown(scope)}
    order by a.id desc limit ${limit}`.execute(db);
  return rows;
}
