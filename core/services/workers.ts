import { naiveTime } from "../api/times.ts";
import type {
  ChangeWorkerBody,
  RegisterWorkerBody,
  WorkerLiveView,
  WorkerMetricsView,
  WorkerRegistered,
  WorkerView,
} from "../api/workers.ts";
import type { LiveWorker } from "../db/live-workers.ts";
import type { WorkerSample } from "../db/tables/worker-sample.ts";
import { uniqueViolation } from "../db/violations.ts";
import { forgetDials } from "../db/worker-dials.ts";
import {
  countRegistrations,
  deleteRegistration,
  findRegistration,
  insertRegistration,
  listRegistrations,
  type RegistrationChanges,
  type RegistrationWithLive,
  updateRegistration,
} from "../db/worker-registrations.ts";
import type { Actor } from "../domain/actor.ts";
import { requireDisplayName } from "../domain/names.ts";
import { DomainError } from "../errors.ts";
import { fromBase64, toBase64 } from "../lib/bytes.ts";
import { isUuid, isUuidV4, uuidV7 } from "../lib/ids.ts";
import { requireOrganization } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

const TOKEN_BYTES = 48;
/** Listed without pages. */
const WORKERS_MAX = 1_000;
const WORKER_URL_PROTOCOLS: readonly string[] = ["http:", "https:", "ws:", "wss:"];

type WorkerDeps = Pick<ServiceDeps, "db" | "notifier">;

export async function listWorkers(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<WorkerView[]> {
  const { organization } = await requireOrganization(deps, actor, name, "member");
  return (await listRegistrations(deps.db, organization.id)).map(viewWorker);
}

/** The token is answered only when it was made here; its hash is all that is kept. */
export async function registerWorker(
  deps: WorkerDeps & Pick<ServiceDeps, "clock" | "random" | "passwords">,
  actor: Actor,
  name: string,
  body: RegisterWorkerBody,
): Promise<WorkerRegistered> {
  const { organization } = await requireOrganization(deps, actor, name, "manageWorkers");
  const workerId = requireWorkerId(body.worker_id);
  const displayName =
    body.display_name === undefined ? workerId : requireDisplayName(body.display_name, "display_name");
  const url = body.url ? requireWorkerUrl(body.url) : null;
  const brought = body.token ? requireWorkerToken(body.token) : null;
  if ((await countRegistrations(deps.db, organization.id)) >= WORKERS_MAX) {
    throw new DomainError("conflict", `The organization has ${WORKERS_MAX} workers, as many as are allowed`);
  }
  const token = brought ?? toBase64(deps.random(new Uint8Array(TOKEN_BYTES)));
  const registration = {
    id: uuidV7(deps.clock.now(), deps.random),
    organization_id: organization.id,
    worker_id: workerId,
    display_name: displayName,
    token_hash: await deps.passwords.hash(token),
    url,
    enable_fetch: body.enable_fetch,
    enable_eval: body.enable_eval,
    enable_build: body.enable_build,
    created_by: actor.user?.id ?? null,
  };
  await insertRegistration(deps.db, registration).catch((error: unknown) => {
    if (uniqueViolation(error) !== "worker_registration_key") throw error;
    throw new DomainError("already_exists", "worker_id: this worker is registered in the organization already");
  });
  announce(deps, organization.id, workerId);
  return brought ? { peer_id: organization.id } : { peer_id: organization.id, token };
}

export async function changeWorker(
  deps: WorkerDeps,
  actor: Actor,
  name: string,
  workerId: string,
  body: ChangeWorkerBody,
): Promise<WorkerView> {
  const worker = await requireWorker(deps, actor, name, workerId);
  const changes: RegistrationChanges = {};
  if (body.display_name !== undefined) changes.display_name = requireDisplayName(body.display_name, "display_name");
  if (body.active !== undefined) changes.active = body.active;
  if (body.enable_fetch !== undefined) changes.enable_fetch = body.enable_fetch;
  if (body.enable_eval !== undefined) changes.enable_eval = body.enable_eval;
  if (body.enable_build !== undefined) changes.enable_build = body.enable_build;
  await updateRegistration(deps.db, worker.id, changes);
  await forgetDials(deps.db, worker.id);
  announce(deps, worker.organization_id, worker.worker_id);
  return viewWorker((await findRegistration(deps.db, worker.organization_id, worker.worker_id)) ?? worker);
}

export async function deleteWorker(deps: WorkerDeps, actor: Actor, name: string, workerId: string): Promise<void> {
  const worker = await requireWorker(deps, actor, name, workerId);
  await deleteRegistration(deps.db, worker.id);
  announce(deps, worker.organization_id, worker.worker_id);
}

export function requireWorkerToken(token: string): string {
  if (fromBase64(token)?.length === TOKEN_BYTES) return token;
  throw new DomainError(
    "validation",
    `token must be base64 of exactly ${TOKEN_BYTES} bytes, such as \`openssl rand -base64 ${TOKEN_BYTES}\` prints`,
  );
}

export function requireWorkerId(text: string): string {
  const id = text.toLowerCase();
  if (isUuidV4(id)) return id;
  throw new DomainError("validation", "worker_id must be a UUID of version 4, as in the worker's file `worker-id`");
}

async function requireWorker(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
  workerId: string,
): Promise<RegistrationWithLive> {
  const { organization } = await requireOrganization(deps, actor, name, "manageWorkers");
  const worker = isUuid(workerId) ? await findRegistration(deps.db, organization.id, workerId) : undefined;
  if (!worker) throw new DomainError("not_found", "Worker not found");
  return worker;
}

function requireWorkerUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url && WORKER_URL_PROTOCOLS.includes(url.protocol) && !url.username && !url.password) return url.href;
  throw new DomainError("validation", "url must be a ws, wss, http or https URL without a user name and password");
}

/** The worker's session is authorized anew, and evaluations that wait for a worker are looked at again. */
function announce({ notifier }: Pick<ServiceDeps, "notifier">, organizationId: string, workerId: string): void {
  notifier.notify("registration", `${organizationId}/${workerId}`);
  notifier.notify("work", organizationId);
}

function viewWorker(row: RegistrationWithLive): WorkerView {
  const { worker_id, display_name, active, url, created_by, enable_fetch, enable_eval, enable_build, signing_key } =
    row;
  return {
    worker_id,
    display_name,
    registered_at: naiveTime(row.created_at),
    active,
    url,
    created_by,
    enable_fetch,
    enable_eval,
    enable_build,
    is_base: false,
    signing_key,
    live: viewWorkerSession(row),
  };
}

function viewWorkerSession({ description, metrics, assigned_job_count }: RegistrationWithLive): WorkerLiveView | null {
  return description && viewLive({ description, metrics, assigned_job_count });
}

/** What a connected worker says of itself. */
export function viewLive({
  description,
  metrics,
  assigned_job_count,
}: Pick<LiveWorker, "description" | "metrics" | "assigned_job_count">): WorkerLiveView {
  const { federate, fetch, eval: evaluate, build, sign } = description.capabilities;
  const { groups } = description;
  return {
    capabilities: { core: true, federate, fetch, eval: evaluate, build, sign, cache: false },
    architectures: [...new Set(groups.flatMap((group) => group.architectures))],
    system_features: [...new Set(groups.flatMap((group) => group.system_features))],
    max_concurrent_builds: groups.reduce((sum, group) => sum + group.max_concurrent_builds, 0),
    groups,
    assigned_job_count,
    draining: description.draining,
    metrics: metrics && viewMetrics(metrics),
  };
}

function viewMetrics(sample: WorkerSample): WorkerMetricsView {
  const { cpu_usage_pct, ram_free_mb, ram_total_mb, disk_speed_mbps, network_speed_mbps } = sample;
  return { cpu_usage_pct, ram_free_mb, ram_total_mb, disk_speed_mbps, network_speed_mbps };
}
