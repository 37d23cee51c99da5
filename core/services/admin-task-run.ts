import type { Kysely } from "kysely";
import {
  beginTask,
  deleteOldTasks,
  endTask,
  findTask,
  listActiveTasks,
  recordTaskProgress,
  type TaskRow,
  TaskStatus,
} from "../db/admin-tasks.ts";
import type { Database } from "../db/schema.ts";
import { DomainError } from "../errors.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";

type Document = Readonly<Record<string, unknown>>;

export interface TaskContext {
  readonly parameters: Document;
  /** What was recorded last, by a server that did not come to the end; null at the beginning. */
  readonly progress: Document | null;
  /** Aborted when the task is cancelled, or this server stops: it returns or throws soon. */
  readonly signal: AbortSignal;
  /** Records where the task is. False when it was cancelled: it returns its report as it is then. */
  readonly record: (progress: Document) => Promise<boolean>;
}

/** Returns the report. A `DomainError` that it throws is told to whoever asked for it. */
export type TaskRun = (context: TaskContext) => Promise<Document>;

export interface TaskRunDeps {
  readonly db: Kysely<Database>;
  readonly log: Logger;
  readonly notifier: Notifier;
  readonly tasks: Readonly<Record<string, TaskRun>>;
}

/** What ended longer ago is forgotten. */
const KEEP_TASKS = 1_000;

/**
 * Runs every task that was asked for, beside each other, until none is left or the signal is aborted. To be called by
 * one server at a time; a task that was under way on another goes on from what that recorded.
 */
export async function runTasks(deps: TaskRunDeps, signal: AbortSignal): Promise<void> {
  const tasks = await listActiveTasks(deps.db);
  await Promise.all(tasks.map((task) => runTask(deps, task, signal)));
}

/** `runTasks` again and again; `wait` resolves when there may be another task. Never rejects. */
export async function keepRunningTasks(
  deps: TaskRunDeps,
  wait: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const running = new Map<string, Promise<void>>();
  const warn = (error: unknown) => deps.log.warn("administrative tasks could not be run; it is tried again", { error });
  while (!signal.aborted) {
    try {
      for (const task of await listActiveTasks(deps.db)) {
        if (running.has(task.id)) continue;
        const ended = runTask(deps, task, signal).catch(warn);
        running.set(
          task.id,
          ended.finally(() => running.delete(task.id)),
        );
      }
      await deleteOldTasks(deps.db, KEEP_TASKS);
    } catch (error) {
      warn(error);
    }
    await wait();
  }
  await Promise.all(running.values());
}

async function runTask(deps: TaskRunDeps, task: TaskRow, stopping: AbortSignal): Promise<void> {
  const { db, log, tasks } = deps;
  const { id, kind, parameters, progress } = task;
  const run = tasks[kind];
  if (!run) return await endTask(db, id, { status: TaskStatus.Failed, error: `this server knows no task ${kind}` });
  if (stopping.aborted || !(await beginTask(db, id))) return;
  using cancel = watchForCancel(deps, task);
  const signal = AbortSignal.any([stopping, cancel.signal]);
  const record = async (at: Document): Promise<boolean> => {
    if (!(await recordTaskProgress(db, id, at))) cancel.now();
    return !cancel.signal.aborted;
  };
  try {
    const report = await run({ parameters, progress, signal, record });
    const isCancelled = cancel.signal.aborted;
    // Stopped with its server: it is not over.
    if (stopping.aborted && !isCancelled) return;
    await endTask(db, id, { status: isCancelled ? TaskStatus.Cancelled : TaskStatus.Completed, report });
    log.info("an administrative task has ended", { task: id, kind, cancelled: isCancelled });
  } catch (error) {
    if (stopping.aborted) return;
    log.error("an administrative task failed", { task: id, kind, error });
    const known = error instanceof DomainError ? error.message : null;
    await endTask(db, id, { status: TaskStatus.Failed, error: known ?? "it failed; the server's log says why" });
  }
}

/** Whoever cancels a task sends a wake-up; a lost one is made up for when progress is recorded. */
function watchForCancel(
  { db, notifier, log }: TaskRunDeps,
  { id, cancel_wanted }: TaskRow,
): Disposable & { readonly signal: AbortSignal; readonly now: () => void } {
  const cancelled = new AbortController();
  const now = () => cancelled.abort();
  if (cancel_wanted) now();
  const look = async () => {
    if ((await findTask(db, id))?.cancel_wanted) now();
  };
  const unsubscribe = notifier.subscribe("task", (subject) => {
    if (subject === id) look().catch((error: unknown) => log.warn("a task could not be looked at", { error }));
  });
  return { signal: cancelled.signal, now, [Symbol.dispose]: unsubscribe };
}
