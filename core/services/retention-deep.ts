import type { TaskStartedView } from "../api/admin-tasks.ts";
import type { DeepSweepBody } from "../api/caches-retention.ts";
import type { Actor } from "../domain/actor.ts";
import type { TaskRun } from "./admin-task-run.ts";
import { requestTask } from "./admin-tasks.ts";
import type { ServiceDeps } from "./deps.ts";
import type { RetentionDeps } from "./retention-deps.ts";
import { deleteDiscardedObjects } from "./retention-objects.ts";
import { sweep, sweepStorage } from "./retention-sweep.ts";

/** Has one of the servers sweep at once, and look through the storage. Superusers only. */
export async function requestDeepSweep(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">,
  actor: Actor,
  parameters: DeepSweepBody,
): Promise<TaskStartedView> {
  return await requestTask(deps, actor, { kind: "deep_gc", parameters: { ...parameters } });
}

/** `deep_gc`, as `runTasks` runs it. One that was cut off begins anew: what is gone is gone. */
export function deepSweepTask(deps: RetentionDeps): TaskRun {
  return async ({ parameters, record, signal }) => {
    const rows = await sweep(deps, signal);
    if (!(await record({ ...rows }))) return rows;
    const storage = await sweepStorage(deps, signal, { force: parameters.force === true });
    let deleted = 0;
    for (let more = true; more && !signal.aborted; ) {
      const batch = await deleteDiscardedObjects(deps);
      deleted += batch.objects;
      more = batch.more;
    }
    return { ...rows, ...storage, deleted_objects: deleted };
  };
}
