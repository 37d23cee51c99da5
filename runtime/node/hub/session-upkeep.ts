import { listOpenConnections } from "#core/db/worker-connections.ts";
import { listRegistrationsOfWorkers } from "#core/db/worker-registrations.ts";
import type { HubDeps } from "./deps.ts";
import type { WorkerSession } from "./session.ts";

/**
 * Ends what newer sessions of the same workers have replaced, be they on other servers. So end sessions of a server
 * that others had given up, which did not know whether it lived: the workers come back with what they run.
 */
export async function yieldReplaced({ db }: HubDeps, sessions: Iterable<WorkerSession>): Promise<void> {
  const open = [...sessions].filter(({ jobs, connection }) => jobs && !connection.closed);
  if (open.length === 0) return;
  const ids = open.map(({ id }) => id);
  const kept = await listOpenConnections(db, ids);
  for (const { id, organizationIds, jobs, connection } of open) {
    const own = kept.get(id);
    const taken = organizationIds.filter((organizationId) => !own?.includes(organizationId));
    if (!own) connection.close(4409, "a newer session of this worker has begun");
    else if (taken.length > 0) jobs?.yieldTo(taken);
  }
}

/**
 * The organizations whose registration of a session's worker is not what the session was let in with, as
 * `organization id/worker id`: word of the change was lost.
 */
export async function listChangedRegistrations(
  { db }: HubDeps,
  sessions: Iterable<WorkerSession>,
): Promise<readonly string[]> {
  const open = [...sessions].filter(({ jobs, connection }) => jobs && !connection.closed);
  if (open.length === 0) return [];
  const rows = await listRegistrationsOfWorkers(
    db,
    open.map(({ workerId }) => workerId),
  );
  const registered = new Map(rows.map((row) => [`${row.organization_id}/${row.worker_id}`, row]));
  return open.flatMap(({ workerId, jobs }) =>
    (jobs?.grants ?? []).flatMap((grant) => {
      const subject = `${grant.organizationId}/${workerId}`;
      const row = registered.get(subject);
      const same =
        row?.active &&
        row.enable_fetch === grant.fetch &&
        row.enable_eval === grant.eval &&
        row.enable_build === grant.build;
      return same ? [] : [subject];
    }),
  );
}
