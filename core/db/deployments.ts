import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import type { BuiltSystem, DeploymentHoldRow, DeploymentRow } from "./tables/deployment.ts";

export async function findRun(db: Kysely<Database>, hostId: string, runId: string): Promise<DeploymentRow | undefined> {
  return await db
    .selectFrom("deployment")
    .selectAll()
    .where("host_id", "=", hostId)
    .where("run_id", "=", runId)
    .executeTakeFirst();
}

export type RunFields = Omit<DeploymentRow, "started_at" | "updated_at">;

/** Written anew as a whole. Takes a transaction: the host is locked. */
export async function putRun(trx: Transaction<Database>, { system, steps, ...run }: RunFields): Promise<void> {
  const values = { ...run, system: system && JSON.stringify(system), steps: JSON.stringify(steps) };
  const { id: _, host_id, run_id, ...changes } = values;
  await trx
    .insertInto("deployment")
    .values(values)
    .onConflict((conflict) =>
      conflict.constraint("deployment_run_key").doUpdateSet({ ...changes, updated_at: sql`gradient_now()` }),
    )
    .execute();
}

/** The oldest runs of the host beyond so many go. */
export async function trimRuns(trx: Transaction<Database>, hostId: string, runsMax: number): Promise<void> {
  await sql`
    delete from deployment where id in (
      select id from deployment where host_id = ${hostId} order by started_at desc, id desc offset ${runsMax})`.execute(
    trx,
  );
}

/** The newest first. */
export async function listRuns(
  db: Kysely<Database>,
  hostId: string,
  { limit, offset }: { readonly limit: number; readonly offset: number },
): Promise<DeploymentRow[]> {
  return await db
    .selectFrom("deployment")
    .selectAll()
    .where("host_id", "=", hostId)
    .orderBy("started_at", "desc")
    .orderBy("id", "desc")
    .limit(limit)
    .offset(offset)
    .execute();
}

export async function countRuns(db: Kysely<Database>, hostId: string): Promise<number> {
  const { count } = await db
    .selectFrom("deployment")
    .select(sql<number>`count(*)::int`.as("count"))
    .where("host_id", "=", hostId)
    .executeTakeFirstOrThrow();
  return count;
}

/** The newest run of each of these hosts. */
export async function listLastRuns(db: Kysely<Database>, hostIds: readonly string[]): Promise<DeploymentRow[]> {
  if (hostIds.length === 0) return [];
  const { rows } = await sql<DeploymentRow>`
    select d.* from unnest(${hostIds}::uuid[]) h (id)
    cross join lateral (
      select * from deployment where host_id = h.id order by started_at desc, id desc limit 1) d`.execute(db);
  return rows;
}

/** What the host knew of a system when it ran it last: its evaluation may have gone. */
export async function findSystemOfRuns(
  db: Kysely<Database>,
  hostId: string,
  storePath: string,
): Promise<BuiltSystem | null> {
  const row = await db
    .selectFrom("deployment")
    .select("system")
    .where("host_id", "=", hostId)
    .where("store_path", "=", storePath)
    .where("system", "is not", null)
    .orderBy("started_at", "desc")
    .limit(1)
    .executeTakeFirst();
  return row?.system ?? null;
}

export type NewHold = Omit<DeploymentHoldRow, "created_at">;

/** What is held already stays as it is: of a failure. Somebody's own word takes the place of any. */
export async function insertHold(trx: Transaction<Database>, hold: NewHold): Promise<void> {
  await trx
    .insertInto("deployment_hold")
    .values(hold)
    .onConflict((conflict) =>
      hold.failed_host !== null
        ? conflict.doNothing()
        : conflict
            .columns(["project_id", "commit_hash"])
            .where("store_path", "is", null)
            .doUpdateSet({ failed_host: null, reason: hold.reason, held_by: hold.held_by }),
    )
    .execute();
}

/** What is kept from one host. */
export interface HoldsOfHost {
  readonly projectId: string;
  /** Its name. */
  readonly host: string;
}

/** Of failures the oldest beyond so many go: of the project, and of the host. */
export async function trimHolds(
  trx: Transaction<Database>,
  { projectId, host }: HoldsOfHost,
  { ofProjectMax, ofHostMax }: { readonly ofProjectMax: number; readonly ofHostMax: number },
): Promise<void> {
  await sql`
    delete from deployment_hold where id in (
      select id from deployment_hold
      where project_id = ${projectId} and store_path is null and failed_host is not null
      order by created_at desc, id desc offset ${ofProjectMax})`.execute(trx);
  await sql`
    delete from deployment_hold where id in (
      select id from deployment_hold
      where project_id = ${projectId} and failed_host = ${host} and store_path is not null
      order by created_at desc, id desc offset ${ofHostMax})`.execute(trx);
}

/** Of what failed on hosts that are forgotten, the oldest beyond so many go. */
export async function trimForgottenHolds(
  trx: Transaction<Database>,
  projectId: string,
  holdsMax: number,
): Promise<void> {
  await sql`
    delete from deployment_hold where id in (
      select d.id from deployment_hold d
      where d.project_id = ${projectId} and d.store_path is not null
        and not exists (select from host h where h.project_id = d.project_id and h.name = d.failed_host)
      order by d.created_at desc, d.id desc offset ${holdsMax})`.execute(trx);
}

export interface HoldRow extends DeploymentHoldRow {
  /** It is kept from this host alone. */
  readonly host_name: string | null;
  readonly held_by_name: string | null;
}

/** Those of commits, and those of these hosts, the newest first. */
export async function listHolds(
  db: Kysely<Database>,
  projectId: string,
  { hosts, limit }: { readonly hosts: readonly string[]; readonly limit: number },
): Promise<HoldRow[]> {
  const { rows } = await sql<HoldRow>`
    select d.*, case when d.store_path is not null then d.failed_host end as host_name, u.username as held_by_name
    from deployment_hold d
    left join user_account u on u.id = d.held_by
    where d.project_id = ${projectId} and (d.store_path is null or d.failed_host = any(${hosts}::text[]))
    order by d.created_at desc, d.id desc limit ${limit}`.execute(db);
  return rows;
}

/** The newest first. */
export async function listCommitHolds(
  db: Kysely<Database>,
  projectId: string,
  { limit, offset }: { readonly limit: number; readonly offset: number },
): Promise<HoldRow[]> {
  const { rows } = await sql<HoldRow>`
    select d.*, null as host_name, u.username as held_by_name
    from deployment_hold d left join user_account u on u.id = d.held_by
    where d.project_id = ${projectId} and d.store_path is null
    order by d.created_at desc, d.id desc limit ${limit} offset ${offset}`.execute(db);
  return rows;
}

export async function countCommitHolds(db: Kysely<Database>, projectId: string): Promise<number> {
  const { count } = await db
    .selectFrom("deployment_hold")
    .select(sql<number>`count(*)::int`.as("count"))
    .where("project_id", "=", projectId)
    .where("store_path", "is", null)
    .executeTakeFirstOrThrow();
  return count;
}

/** How many there were. */
export async function releaseCommit(db: Kysely<Database>, projectId: string, commit: string): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom("deployment_hold")
    .where("project_id", "=", projectId)
    .where("store_path", "is", null)
    .where("commit_hash", "=", commit)
    .executeTakeFirst();
  return Number(numDeletedRows);
}

/** Of one path of the host, or of all. How many there were. */
export async function releaseHost(
  db: Kysely<Database>,
  { projectId, host }: HoldsOfHost,
  storePath: string | null,
): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom("deployment_hold")
    .where("project_id", "=", projectId)
    .where("failed_host", "=", host)
    .where("store_path", "is not", null)
    .$if(storePath !== null, (query) => query.where("store_path", "=", storePath))
    .executeTakeFirst();
  return Number(numDeletedRows);
}
