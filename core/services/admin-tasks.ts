import type { AdminTaskView, TaskStartedView } from "../api/admin-tasks.ts";
import { naiveTime } from "../api/times.ts";
import { cancelTask, findTask, insertTask, listTasks, type TaskRow, TaskStatus } from "../db/admin-tasks.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireSuperuser } from "./admin.ts";
import type { ServiceDeps } from "./deps.ts";

type TaskDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">;

const LISTED_MAX = 50;
const STATUS_NAMES = ["pending", "running", "completed", "failed", "cancelled"] as const;

/**
 * Has long work on the whole instance done by one of its servers, in the background. Only one of a kind at a time: the
 * second is a `conflict`. The caller has checked the parameters.
 */
export async function requestTask(
  { db, clock, random, notifier }: TaskDeps,
  actor: Actor,
  task: { readonly kind: string; readonly parameters: Readonly<Record<string, unknown>> },
): Promise<TaskStartedView> {
  requireSuperuser(actor);
  const id = uuidV7(clock.now(), random);
  const added = await insertTask(db, { id, ...task, created_by: requireUser(actor).id });
  if (!added) {
    throw new DomainError("conflict", `a task of the kind ${task.kind} is under way: wait for it, or cancel it`);
  }
  notifier.notify("task", id);
  return { task_id: id, status: "pending" };
}

/** The newest 50. */
export async function showTasks({ db }: Pick<TaskDeps, "db">, actor: Actor): Promise<AdminTaskView[]> {
  requireSuperuser(actor);
  return (await listTasks(db, LISTED_MAX)).map(viewOf);
}

export async function showTask({ db }: Pick<TaskDeps, "db">, actor: Actor, id: string): Promise<AdminTaskView> {
  requireSuperuser(actor);
  return viewOf(await requireTask({ db }, id));
}

/** What it has done stays done. One that runs ends soon, and says so by its status. */
export async function stopTask(
  { db, notifier }: Pick<TaskDeps, "db" | "notifier">,
  actor: Actor,
  id: string,
): Promise<AdminTaskView> {
  requireSuperuser(actor);
  const { status } = await requireTask({ db }, id);
  if (!(await cancelTask(db, id))) {
    throw new DomainError("conflict", `the task has ended: it is ${STATUS_NAMES[status]}`);
  }
  notifier.notify("task", id);
  return viewOf(await requireTask({ db }, id));
}

async function requireTask({ db }: Pick<TaskDeps, "db">, id: string): Promise<TaskRow> {
  const row = await findTask(db, id);
  if (!row) throw new DomainError("not_found", "Task not found");
  return row;
}

function viewOf(row: TaskRow): AdminTaskView {
  return {
    id: row.id,
    kind: row.kind,
    status: STATUS_NAMES[row.status] ?? "failed",
    cancelling: row.cancel_wanted && row.status === TaskStatus.Running,
    parameters: row.parameters,
    created_at: naiveTime(row.created_at),
    started_at: row.started_at && naiveTime(row.started_at),
    finished_at: row.finished_at && naiveTime(row.finished_at),
    progress: row.progress,
    report: row.report,
    error: row.error,
    created_by: row.created_by_name,
  };
}
