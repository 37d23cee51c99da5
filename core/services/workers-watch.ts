import { naiveTime } from "../api/times.ts";
import type { WorkerHistoryView, WorkerTestView } from "../api/workers.ts";
import { findRegistration } from "../db/worker-registrations.ts";
import { loadWorkerHistory } from "../db/worker-samples.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { isUuid } from "../lib/ids.ts";
import { requireOrganization } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

const LIMITS = { samplesMax: 2_000, connectionsMax: 100 };

/** How a worker's machine was doing, and its sessions, as far as they are of this organization. */
export async function showWorkerHistory(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
  workerId: string,
): Promise<WorkerHistoryView> {
  const { organizationId } = await requireWorker(deps, actor, name, workerId);
  const { samples, connections, dispatched } = await loadWorkerHistory(deps.db, { organizationId, workerId }, LIMITS);
  return {
    samples: samples.map(({ at, assigned, ...measured }) => ({
      at: naiveTime(at),
      ...measured,
      assigned_jobs: assigned[organizationId] ?? 0,
    })),
    connections: connections.map(({ id, connected_at, disconnected_at, description }) => ({
      id,
      connected_at: naiveTime(connected_at),
      disconnected_at: disconnected_at && naiveTime(disconnected_at),
      draining: description.draining,
    })),
    jobs_dispatched: dispatched,
  };
}

/** Whether the worker is connected and works for the organization, and what to do when it does not. */
export async function testWorker(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
  workerId: string,
): Promise<WorkerTestView> {
  const { registration } = await requireWorker(deps, actor, name, workerId);
  const { description, active, url, dial_error } = registration;
  const connected = description !== null;
  if (connected) {
    const message = description.draining ? "connected, and finishing what it has" : "connected";
    return { ok: active && !description.draining, connected, authorized_for_org: active, message };
  }
  return { ok: false, connected, authorized_for_org: false, message: advice({ active, url, dial_error }) };
}

function advice({
  active,
  url,
  dial_error,
}: {
  readonly active: boolean;
  readonly url: string | null;
  readonly dial_error: string | null;
}): string {
  if (!active) return "the worker is deactivated: activate it";
  if (url === null) {
    const token = "this organization's token in its peers file";
    return `the worker is not connected: see that it runs, that it reaches this server, and that it has ${token}`;
  }
  if (dial_error === null) return `the server dials the worker at ${url}`;
  return `the worker could not be dialled at ${url}: ${dial_error}`;
}

async function requireWorker(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string, workerId: string) {
  const { organization } = await requireOrganization(deps, actor, name, "member");
  const registration = isUuid(workerId) ? await findRegistration(deps.db, organization.id, workerId) : undefined;
  if (!registration) throw new DomainError("not_found", "Worker not found");
  return { organizationId: organization.id, registration };
}
