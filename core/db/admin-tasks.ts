import type { Kysely } from "kysely";
import { sql } from "kysely";
import type { Database } from "./schema.ts";
import type { AdminTaskRow } from "./tables/admin-task.ts";
import { databaseNow } from "./time.ts";

export type TaskRow = AdminTaskRow & {
  /** Null where the account is gone. */
  readonly created_by_name: string | null;
};

export const TaskStatus = { Pending: 0, Running: 1, Completed: 2, Failed: 3, Cancelled: 4 } as const;
const ACTIVE: readonly number[] = [TaskStatus.Pending, TaskStatus.Running];

type Document = Readonly<Record<string, unknown>>;

/** False when one of this kind is pending or running. */
export async function insertTask(
  db: Kysely<Database>,
  task: { readonly id: string; readonly kind: string; readonly created_by: string; readonly parameters: Document },
): Promise<boolean> {
  const inserted = await db
    .insertInto("admin_task")
    .values({ ...task, parameters: JSON.stringify(task.parameters) })
    // In words of the index: a parameter would not be known to fit it.
    .onConflict((conflict) => conflict.column("kind").where(sql<boolean>`status in (0, 1)`).doNothing())
    .executeTakeFirst();
  return (inserted.numInsertedOrUpdatedRows ?? 0n) > 0n;
}

/** The newest first. */
export async function listTasks(db: Kysely<Database>, limit: number): Promise<TaskRow[]> {
  return await selectTasks(db).orderBy("admin_task.created_at", "desc").orderBy("admin_task.id").limit(limit).execute();
}

export async function findTask(db: Kysely<Database>, id: string): Promise<TaskRow | undefined> {
  return await selectTasks(db).where("admin_task.id", "=", id).executeTakeFirst();
}

/** Those that are to be run, one that was under way first, then the oldest. */
export async function listActiveTasks(db: Kysely<Database>): Promise<TaskRow[]> {
  return await selectTasks(db)
    .where("admin_task.status", "in", [...ACTIVE])
    .orderBy("admin_task.status", "desc")
    .orderBy("admin_task.created_at")
    .execute();
}

/** False when it has ended. */
export async function beginTask(db: Kysely<Database>, id: string): Promise<boolean> {
  const result = await db
    .updateTable("admin_task")
    .set({ status: TaskStatus.Running, started_at: sql<Date>`coalesce(started_at, gradient_now())` })
    .where("id", "=", id)
    .where("status", "in", [...ACTIVE])
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** False when it is to end: it was cancelled, or has been ended. */
export async function recordTaskProgress(db: Kysely<Database>, id: string, progress: Document): Promise<boolean> {
  const row = await db
    .updateTable("admin_task")
    .set({ progress: JSON.stringify(progress) })
    .where("id", "=", id)
    .where("status", "=", TaskStatus.Running)
    .returning("cancel_wanted")
    .executeTakeFirst();
  return row?.cancel_wanted === false;
}

export async function endTask(
  db: Kysely<Database>,
  id: string,
  end: { readonly status: number; readonly report?: Document; readonly error?: string },
): Promise<void> {
  await db
    .updateTable("admin_task")
    .set({
      status: end.status,
      finished_at: databaseNow,
      error: end.error ?? null,
      ...(end.report && { report: JSON.stringify(end.report) }),
    })
    .where("id", "=", id)
    .where("status", "in", [...ACTIVE])
    .execute();
}

/** One that has not begun ends at once. False when it has ended before. */
export async function cancelTask(db: Kysely<Database>, id: string): Promise<boolean> {
  const result = await sql`
    update admin_task set cancel_wanted = true,
      status = case status when 0 then 4 else status end,
      finished_at = case status when 0 then gradient_now() end
    where id = ${id} and status in (0, 1)`.execute(db);
  return (result.numAffectedRows ?? 0n) > 0n;
}

/** Forgets all but the newest. */
export async function deleteOldTasks(db: Kysely<Database>, keep: number): Promise<void> {
  await sql`
    delete from admin_task where status not in (0, 1) and id in (
      select id from admin_task order by created_at desc, id offset ${keep})`.execute(db);
}

function selectTasks(db: Kysely<Database>) {
  return db
    .selectFrom("admin_task")
    .leftJoin("user_account", "user_account.id", "admin_task.created_by")
    .selectAll("admin_task")
    .select("user_account.username as created_by_name");
}
