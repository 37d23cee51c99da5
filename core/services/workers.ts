import type { Transaction } from "kysely";
import { naiveTime } from "../api/times.ts";
import type {
  ChangeWorkerBody,
  RegisterWorkerBody,
  WorkerLiveView,
  WorkerMetricsView,
  WorkerRegistered,
  WorkerView,
} from "../api/workers.ts";
import {
  chooseBaseWorker,
  deleteBaseRegistration,
  listBaseWorkersBesides,
  offerBaseWorker,
} from "../db/base-workers.ts";
import type { LiveWorker } from "../db/live-workers.ts";
import type { Database, WorkerRegistrationRow } from "../db/schema.ts";
import type { BaseWorkerRow } from "../db/tables/state.ts";
import type { WorkerSample } from "../db/tables/worker-sample.ts";
import { inTransaction } from "../db/transaction.ts";
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
import type { AuditEvent } from "../domain/audit-events.ts";
import { requireDisplayName } from "../domain/names.ts";
import { DomainError } from "../errors.ts";
import { fromBase64, toBase64 } from "../lib/bytes.ts";
import { isUuid, isUuidV4, uuidV7 } from "../lib/ids.ts";
import { requireOrganization } from "./access.ts";
import { type AuditRecord, auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";

const TOKEN_BYTES = 48;
/** Listed without pages. */
const WORKERS_MAX = 1_000;
const WORKER_URL_PROTOCOLS: readonly string[] = ["http:", "https:", "ws:", "wss:"];

type WorkerDeps = Pick<ServiceDeps, "db" | "notifier">;

/** The organization's own, and those of the instance that it uses or may use. */
export async function listWorkers(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<WorkerView[]> {
  const { organization } = await requireOrganization(deps, actor, name, "member");
  const registered = await listRegistrations(deps.db, organization.id);
  const others = await listBaseWorkersBesides(deps.db, organization.id);
  return [...registered.map(viewWorker), ...others.map(viewUnusedWorker)];
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
  const register = inTransaction(deps.db, async (trx) => {
    await deleteBaseRegistration(trx, organization.id, workerId);
    await insertRegistration(trx, registration);
    await record(trx, actor, registration, "worker.register");
  });
  await register.catch((error: unknown) => {
    if (uniqueViolation(error) !== "worker_registration_key") throw error;
    throw new DomainError("already_exists", "worker_id: this worker is registered in the organization already");
  });
  announce(deps, organization.id, workerId);
  return brought ? { peer_id: organization.id } : { peer_id: organization.id, token };
}

export async function changeWorker(
  deps: WorkerDeps & Pick<ServiceDeps, "clock" | "random">,
  actor: Actor,
  name: string,
  workerId: string,
  body: ChangeWorkerBody,
): Promise<WorkerView> {
  const worker = await requireWorker(deps, actor, name, workerId);
  if (worker.base_worker_id !== null) requireOnlyActive(body);
  const changes: RegistrationChanges = {};
  if (body.display_name !== undefined) changes.display_name = requireDisplayName(body.display_name, "display_name");
  if (body.active !== undefined) changes.active = body.active;
  if (body.enable_fetch !== undefined) changes.enable_fetch = body.enable_fetch;
  if (body.enable_eval !== undefined) changes.enable_eval = body.enable_eval;
  if (body.enable_build !== undefined) changes.enable_build = body.enable_build;
  await inTransaction(deps.db, async (trx) => {
    if (worker.base_worker_id === null) await updateRegistration(trx, worker.id, changes);
    else if (body.active !== undefined) await chooseBaseWorker(trx, worker.id, body.active);
    await forgetDials(trx, worker.id);
    await record(trx, actor, worker, "worker.update", { changed: Object.keys(changes) });
  });
  announce(deps, worker.organization_id, worker.worker_id);
  return viewWorker((await findRegistration(deps.db, worker.organization_id, worker.worker_id)) ?? worker);
}

export async function deleteWorker(
  deps: WorkerDeps & Pick<ServiceDeps, "clock" | "random">,
  actor: Actor,
  name: string,
  workerId: string,
): Promise<void> {
  const worker = await requireWorker(deps, actor, name, workerId);
  if (worker.base_worker_id !== null) {
    throw new DomainError("conflict", "This worker belongs to the whole server: switch it off for the organization");
  }
  await inTransaction(deps.db, async (trx) => {
    await deleteRegistration(trx, worker.id);
    await record(trx, actor, worker, "worker.delete");
  });
  announce(deps, worker.organization_id, worker.worker_id);
}

async function record(
  trx: Transaction<Database>,
  actor: Actor,
  { organization_id: organizationId, worker_id }: Pick<WorkerRegistrationRow, "organization_id" | "worker_id">,
  event: AuditEvent,
  more: AuditRecord["metadata"] = {},
): Promise<void> {
  await recordAudit(trx, { ...auditAuthor(actor), event, organizationId, metadata: { worker_id, ...more } });
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

/** A base worker that the organization has never said anything about is registered there by that, and off. */
async function requireWorker(
  { db, clock, random }: Pick<ServiceDeps, "db" | "clock" | "random">,
  actor: Actor,
  name: string,
  workerId: string,
): Promise<RegistrationWithLive> {
  const { organization } = await requireOrganization({ db }, actor, name, "manageWorkers");
  const organizationId = organization.id;
  const find = async () => (isUuid(workerId) ? await findRegistration(db, organizationId, workerId) : undefined);
  const known = await find();
  if (known) return known;
  const id = uuidV7(clock.now(), random);
  const offered = isUuid(workerId) && (await offerBaseWorker(db, { id, organizationId, workerId }));
  const worker = offered ? await find() : undefined;
  if (!worker) throw new DomainError("not_found", "Worker not found");
  return worker;
}

function requireOnlyActive({ active, ...rest }: ChangeWorkerBody): void {
  if (Object.values(rest).every((value) => value === undefined)) return;
  throw new DomainError("conflict", "This worker belongs to the whole server: only `active` can be changed here");
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
    is_base: row.base_worker_id !== null,
    signing_key,
    live: viewWorkerSession(row),
  };
}

/** One that the organization could use. */
function viewUnusedWorker(base: BaseWorkerRow): WorkerView {
  const { worker_id, display_name, url, created_by, enable_fetch, enable_eval, enable_build } = base;
  const registered_at = naiveTime(base.created_at);
  const what = { worker_id, display_name, registered_at, url, created_by, enable_fetch, enable_eval, enable_build };
  return { ...what, active: false, is_base: true, signing_key: null, live: null };
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
