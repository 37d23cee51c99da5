import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import { ACTIVE_EVALUATION, EvaluationKind } from "../domain/states.ts";
import { jsonbText } from "./json-text.ts";
import type { Database } from "./schema.ts";
import type { ProjectTriggerRow, StoredTriggerConfig } from "./tables/triggers.ts";
import { databaseNow } from "./time.ts";

/** When a trigger is looked at: so many milliseconds from now, at a time, or never by itself. */
export type DueTime = { readonly inMs: number } | { readonly at: Date } | null;

export interface NewTrigger {
  readonly id: string;
  readonly project_id: string;
  readonly type: number;
  readonly config: StoredTriggerConfig;
  readonly active: boolean;
  readonly due: DueTime;
}

export async function insertTrigger(
  db: Kysely<Database>,
  { config, due, ...trigger }: NewTrigger,
): Promise<ProjectTriggerRow> {
  return await db
    .insertInto("project_trigger")
    .values({ ...trigger, config: jsonbText(config), due_at: dueAt(due) })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** The oldest first. */
export async function listTriggers(
  db: Kysely<Database>,
  projectId: string,
  limit: number,
): Promise<ProjectTriggerRow[]> {
  return await db
    .selectFrom("project_trigger")
    .selectAll()
    .where("project_id", "=", projectId)
    .orderBy("created_at")
    .orderBy("id")
    .limit(limit)
    .execute();
}

/** Of all these projects, the oldest first. */
export async function listTriggersOf(
  db: Kysely<Database>,
  projectIds: readonly string[],
): Promise<Pick<ProjectTriggerRow, "project_id" | "type" | "config" | "active">[]> {
  if (projectIds.length === 0) return [];
  return await db
    .selectFrom("project_trigger")
    .select(["project_id", "type", "config", "active"])
    .where("project_id", "in", projectIds)
    .orderBy("created_at")
    .orderBy("id")
    .execute();
}

export async function countTriggers(db: Kysely<Database>, projectId: string): Promise<number> {
  const { count } = await db
    .selectFrom("project_trigger")
    .select(sql<number>`count(*)::int`.as("count"))
    .where("project_id", "=", projectId)
    .executeTakeFirstOrThrow();
  return count;
}

export async function findTrigger(
  db: Kysely<Database>,
  projectId: string,
  id: string,
): Promise<ProjectTriggerRow | undefined> {
  return await db
    .selectFrom("project_trigger")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .executeTakeFirst();
}

/** With a lock that holds off the loop and other changes. */
export async function lockTrigger(
  trx: Transaction<Database>,
  projectId: string,
  id: string,
): Promise<ProjectTriggerRow | undefined> {
  return await trx
    .selectFrom("project_trigger")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .forNoKeyUpdate()
    .executeTakeFirst();
}

/** What somebody wants of a trigger. It begins anew with that: what was known of its old state is forgotten. */
export async function changeTrigger(
  trx: Transaction<Database>,
  id: string,
  {
    type,
    config,
    active,
    due,
  }: { readonly type: number; readonly config: StoredTriggerConfig; readonly active: boolean; readonly due: DueTime },
): Promise<ProjectTriggerRow> {
  const text = jsonbText(config);
  return await trx
    .updateTable("project_trigger")
    .set({
      type,
      config: text,
      active,
      due_at: dueAt(due),
      revision: sql`revision + 1`,
      last_commit: sql`case when type = ${type} and config = ${text}::jsonb then last_commit end`,
      last_error: null,
      failures: 0,
      updated_at: databaseNow,
    })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

export async function deleteTrigger(db: Kysely<Database>, projectId: string, id: string): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("project_trigger")
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}

/** Sets when a trigger is looked at, and drops what was decided on it before. */
export async function rescheduleTrigger(db: Kysely<Database>, id: string, due: DueTime): Promise<void> {
  await db
    .updateTable("project_trigger")
    .set({ due_at: dueAt(due), revision: sql`revision + 1` })
    .where("id", "=", id)
    .execute();
}

export interface DueTrigger
  extends Pick<ProjectTriggerRow, "id" | "project_id" | "type" | "config" | "revision" | "last_commit" | "failures"> {
  readonly organization_id: string;
  readonly repository: string;
  /** The project was changed, and nothing of it has been evaluated since. */
  readonly force_evaluation: boolean;
  /** The database's clock. */
  readonly now: Date;
}

/** Those that are to be looked at but for `except`, the one that waits longest first; of active projects only. */
export async function listDueTriggers(
  db: Kysely<Database>,
  { limit, except }: { readonly limit: number; readonly except: readonly string[] },
): Promise<DueTrigger[]> {
  const { rows } = await sql<DueTrigger>`
    select t.id, t.project_id, t.type, t.config, t.revision, t.last_commit, t.failures,
      p.organization_id, p.repository, p.force_evaluation, gradient_now() as now
    from project_trigger t join project p on p.id = t.project_id
    where t.active and t.due_at <= gradient_now() and p.active and t.id <> all(${except}::uuid[])
    order by t.due_at limit ${limit}`.execute(db);
  return rows;
}

/** A trigger as it was when it was decided on. */
export interface TriggerRevision {
  readonly id: string;
  readonly revision: number;
}

/** Writes down what came of looking. False when somebody has changed the trigger since: then it changes nothing. */
export async function noteTrigger(
  db: Kysely<Database>,
  { id, revision }: TriggerRevision,
  {
    due,
    commit,
    fired = false,
    error = null,
  }: {
    readonly due: DueTime;
    readonly commit?: string;
    readonly fired?: boolean;
    readonly error?: string | null;
  },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("project_trigger")
    .set({
      due_at: dueAt(due),
      revision: sql`revision + 1`,
      last_checked_at: databaseNow,
      last_error: error,
      failures: error === null ? 0 : sql`least(failures + 1, 1000)`,
      ...(commit !== undefined && { last_commit: commit }),
      ...(fired && { last_fired_at: databaseNow }),
    })
    .where("id", "=", id)
    .where("revision", "=", revision)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** Somebody made it fire: when it is looked at next stays as it is. */
export async function noteTriggerTested(db: Kysely<Database>, id: string, commit: string | null): Promise<void> {
  await db
    .updateTable("project_trigger")
    .set({ last_fired_at: databaseNow, ...(commit !== null && { last_commit: commit }) })
    .where("id", "=", id)
    .execute();
}

/** The repository was looked at. */
export async function noteProjectChecked(
  db: Kysely<Database>,
  projectId: string,
  defaultBranch: string | null,
): Promise<void> {
  const named = defaultBranch === null ? {} : { default_branch: defaultBranch };
  await db
    .updateTable("project")
    .set({ last_check_at: databaseNow, ...named })
    .where("id", "=", projectId)
    .execute();
}

/** The branch that the repository's HEAD points to; null where that was not said: what is known stays. */
export async function noteDefaultBranch(db: Kysely<Database>, projectId: string, branch: string | null): Promise<void> {
  if (branch === null) return;
  await db
    .updateTable("project")
    .set({ default_branch: branch })
    .where("id", "=", projectId)
    .where("default_branch", "is distinct from", branch)
    .execute();
}

/** What was changed of the project is evaluated now. */
export async function clearForce(db: Kysely<Database>, projectId: string): Promise<void> {
  await db
    .updateTable("project")
    .set({ force_evaluation: false })
    .where("id", "=", projectId)
    .where("force_evaluation", "=", true)
    .execute();
}

/**
 * Whether the project's own state of this commit is being evaluated, or was the last that was, in an evaluation other
 * than `except`. What pull requests propose and what brings back lost outputs is not its own state, and a commit that
 * comes to another branch is new there: it may be what hosts follow.
 */
export async function isCommitEvaluated(
  db: Kysely<Database>,
  projectId: string,
  {
    commit,
    branch,
    except,
  }: { readonly commit: string; readonly branch: string | null; readonly except: string | null },
): Promise<boolean> {
  const own = () =>
    db
      .selectFrom("evaluation")
      .select("commit_hash")
      .where("project_id", "=", projectId)
      .where("kind", "=", EvaluationKind.Normal)
      .where(sql<boolean>`trigger_type is distinct from 2`)
      .where("branch", "is not distinct from", branch)
      .$if(except !== null, (query) => query.where("id", "!=", except));
  const last = await own().orderBy("ordinal", "desc").limit(1).executeTakeFirst();
  if (last?.commit_hash === commit) return true;
  const active = await own()
    .where("status", "in", ACTIVE_EVALUATION)
    .where("commit_hash", "=", commit)
    .limit(1)
    .executeTakeFirst();
  return active !== undefined;
}

function dueAt(due: DueTime): RawBuilder<Date> | Date | null {
  if (due === null) return null;
  return "at" in due ? due.at : sql<Date>`gradient_now() + ${due.inMs} * interval '1 millisecond'`;
}
