import type { ConnectedWorkerView, DrainingView } from "../api/admin.ts";
import { naiveTime } from "../api/times.ts";
import { listLiveWorkers } from "../db/live-workers.ts";
import { setDraining } from "../db/scheduler-state.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { ServiceDeps } from "./deps.ts";
import { viewLive } from "./workers.ts";

/** Notified for the whole instance: every server looks at its work again. */
const EVERY_ORGANIZATION = "all";
/** As many as may be connected to four servers. */
const WORKERS_MAX = 1_000;

/** Superusers only, and not by a key: those are for organizations and caches. */
export function requireSuperuser(actor: Actor): void {
  const user = requireUser(actor);
  if (user.superuser && !actor.key) return;
  throw new DomainError("superuser_required", "Only superusers may do this, signed in and not by an API key");
}

/**
 * While the instance drains, what runs goes on and nothing new is given out, by any of its servers. It lasts until it
 * is switched off, or all servers of the time have been restarted.
 */
export async function drainInstance(
  { db, notifier }: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  enabled: boolean,
): Promise<DrainingView> {
  requireSuperuser(actor);
  if (await setDraining(db, enabled)) notifier.notify("work", EVERY_ORGANIZATION);
  return { draining: enabled };
}

/**
 * Every worker's session with any server. For superusers, and for everybody who is signed in where the settings say so:
 * they do not see whom a worker works for.
 */
export async function listConnectedWorkers(
  { db, settings }: Pick<ServiceDeps, "db" | "settings">,
  actor: Actor,
): Promise<ConnectedWorkerView[]> {
  const { superuser } = requireUser(actor);
  const seesAll = superuser && !actor.key;
  if (!settings.globalStatsPublic) requireSuperuser(actor);
  return (await listLiveWorkers(db, WORKERS_MAX)).map((worker) => ({
    worker_id: worker.worker_id,
    connected_at: naiveTime(worker.connected_at),
    organizations: seesAll ? worker.organization_ids : null,
    ...viewLive(worker),
  }));
}
