import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import { edgeLacksOutput } from "./loss.ts";
import type { Database } from "./schema.ts";
import { databaseNowPlus } from "./time.ts";

const noLossUnderWay = sql`not exists (select from output_loss l where l.build_id = e.dependency_id)`;
const dependencyIsOver = sql`d.status not in (0, 1, 2, 8)`;

/**
 * What must hold of every build after every committed transition, as the condition that finds what breaks it. Each is
 * asked in one statement, which sees one moment: what it finds is no transition under way.
 */
const BUILD_FAULTS: Readonly<Record<string, RawBuilder<unknown>>> = {
  counter: sql`b.pending_dependencies <> (
    select count(*) from build_edge e where e.build_id = b.id and not e.satisfied)`,
  edge: sql`exists (
    select from build_edge e where e.build_id = b.id and e.satisfied = ${edgeLacksOutput} and ${noLossUnderWay})`,
  readiness: sql`(b.status = 1 and (b.pending_dependencies > 0 or b.ready_at is null))
    or (b.status = 0 and b.pending_dependencies = 0) or ((b.status = 8) <> (b.retry_at is not null))`,
  lease: sql`(b.status = 2) <> exists (select from attempt a where a.build_id = b.id and a.finished_at is null)`,
  dependency: sql`b.status in (0, 8) and exists (
    select from build_edge e join build d on d.id = e.dependency_id
    where e.build_id = b.id and not e.satisfied and ${dependencyIsOver}
      and not exists (select from recovery_need n where n.build_id = d.id))`,
};

export type BuildFault = "counter" | "edge" | "readiness" | "lease" | "dependency";

export interface FaultyBuild {
  readonly id: string;
  readonly fault: BuildFault;
}

/**
 * The ids after `after`, in order: the part of all builds that the next look is about. What is being deleted goes in no
 * order, and is looked at no more.
 */
export async function listBuildIds(db: Kysely<Database>, after: string | null, limit: number): Promise<string[]> {
  const buried = db.selectFrom("organization").select("id").where("deleted_at", "is not", null);
  let query = db.selectFrom("build").select("id").where("organization_id", "not in", buried).orderBy("id").limit(limit);
  if (after !== null) query = query.where("id", ">", after);
  return (await query.execute()).map(({ id }) => id);
}

export async function listFaultyBuilds(db: Kysely<Database>, buildIds: readonly string[]): Promise<FaultyBuild[]> {
  const looks = Object.entries(BUILD_FAULTS).map(
    ([fault, broken]) =>
      sql`select b.id, ${fault}::text as fault from build b where b.id = any(${buildIds}) and (${broken})`,
  );
  const result = await sql<FaultyBuild>`${sql.join(looks, sql` union all `)}`.execute(db);
  return result.rows;
}

/** Times that a state needs and that are missing. The caller holds the builds. */
export async function mendTimes(trx: Transaction<Database>, buildIds: readonly string[]): Promise<void> {
  await sql`
    update build set
      ready_at = case when status = 1 then coalesce(ready_at, gradient_now()) else ready_at end,
      retry_at = case when status = 8 then coalesce(retry_at, gradient_now()) end
    where id = any(${buildIds})
      and ((status = 1 and ready_at is null) or (status = 8) <> (retry_at is not null))`.execute(trx);
}

/** Open attempts of builds that do not run. The caller holds none of the builds: attempts are locked before them. */
export async function lockStrayAttempts(trx: Transaction<Database>, buildIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select a.id from attempt a join build b on b.id = a.build_id
    where b.id = any(${buildIds}) and a.finished_at is null and b.status <> 2
    order by a.id for no key update of a`.execute(trx);
  return result.rows.map(({ id }) => id);
}

/** Which of these builds run without a lease. The caller holds them. */
export async function listBuildsWithoutLease(
  trx: Transaction<Database>,
  buildIds: readonly string[],
): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select id from build b where id = any(${buildIds}) and status = 2 and not exists (
      select from attempt a where a.build_id = b.id and a.finished_at is null)`.execute(trx);
  return result.rows.map(({ id }) => id);
}

/** What these builds wait for although nothing goes on there. */
export async function listEndedDependencies(db: Kysely<Database>, buildIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select distinct d.id from build_edge e join build d on d.id = e.dependency_id
    where e.build_id = any(${buildIds}) and not e.satisfied and ${dependencyIsOver}`.execute(db);
  return result.rows.map(({ id }) => id);
}

export interface NeededPath {
  readonly organization_id: string;
  readonly store_path: string;
}

/** Outputs (base names) that are recorded as available, and that waiting builds among these count on. */
export async function listNeededPaths(db: Kysely<Database>, buildIds: readonly string[]): Promise<NeededPath[]> {
  const result = await sql<NeededPath>`
    select distinct b.organization_id, o.store_path
    from build b join build_edge e on e.build_id = b.id and e.satisfied
    join build_output o on o.build_id = e.dependency_id and o.name = any(e.outputs) and o.available
    where b.id = any(${buildIds}) and b.status in (0, 1, 8) and o.store_path is not null`.execute(db);
  return result.rows;
}

/** Evaluations that are being evaluated without a lease, and attempts of evaluations that are not. */
export async function listEvaluationsWithoutLease(db: Kysely<Database>, limit: number): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select v.id from evaluation v where v.status in (8, 1, 2) and not exists (
      select from attempt a where a.evaluation_id = v.id and a.finished_at is null)
    order by v.id limit ${limit}`.execute(db);
  return result.rows.map(({ id }) => id);
}

export async function listStrayEvaluationAttempts(db: Kysely<Database>, limit: number): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select a.id from attempt a join evaluation v on v.id = a.evaluation_id
    where a.finished_at is null and v.status not in (8, 1, 2)
    order by a.id limit ${limit}`.execute(db);
  return result.rows.map(({ id }) => id);
}

/** Closed sessions of workers, and sessions of people that ended, `keepMs` ago. Returns how many rows went. */
export async function deleteEndedSessions(db: Kysely<Database>, keepMs: number, limit: number): Promise<number> {
  const connections = await sql`
    delete from worker_connection where id in (
      select id from worker_connection where disconnected_at < ${databaseNowPlus(-keepMs)} limit ${limit})`.execute(db);
  const sessions = await sql`
    delete from session where id in (
      select id from session where expires_at < ${databaseNowPlus(-keepMs)} limit ${limit})`.execute(db);
  return Number((connections.numAffectedRows ?? 0n) + (sessions.numAffectedRows ?? 0n));
}
