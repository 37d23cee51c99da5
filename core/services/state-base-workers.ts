import type { StateWorker } from "../api/state.ts";
import {
  deleteBaseWorker,
  insertBaseWorker,
  lockBaseWorkers,
  lockStateRegistrations,
  updateBaseWorker,
  updateStateRegistration,
} from "../db/state-workers.ts";
import { insertRegistration } from "../db/worker-registrations.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { tokenHash } from "./state-worker-tokens.ts";

type BaseWorker = Awaited<ReturnType<typeof lockBaseWorkers>>[number];
type Registration = Awaited<ReturnType<typeof lockStateRegistrations>>[number];

/** Workers that any organization may use, and the registrations of those that do. */
export async function reconcileBaseWorkers(context: StateContext): Promise<void> {
  const { document, trx } = context;
  const declared = document.workers.filter(({ base_worker }) => base_worker);
  const rows = await lockBaseWorkers(trx);
  const registrations = await lockStateRegistrations(
    trx,
    [...declared, ...rows].map(({ worker_id }) => worker_id),
  );
  for (const worker of declared) {
    const row = rows.find(({ worker_id }) => worker_id === worker.worker_id);
    const hash = await tokenHash(context, worker, row ? [row] : []);
    if (hash === null) continue;
    const base = await putBaseWorker(context, worker, { row, hash });
    const own = registrations.filter(({ worker_id }) => worker_id === worker.worker_id);
    await copyToRegistrations(context, base, own);
    await preEnable(context, worker, base, own);
  }
  for (const row of rows) {
    if (declared.some(({ worker_id }) => worker_id === row.worker_id)) continue;
    await deleteBaseWorker(trx, row.id);
    for (const one of registrations.filter(({ base_worker_id }) => base_worker_id === row.id)) announce(context, one);
    context.note("deleted", `base worker ${row.worker_id}`);
  }
}

async function putBaseWorker(
  context: StateContext,
  worker: StateWorker,
  { row, hash }: { readonly row: BaseWorker | undefined; readonly hash: string },
): Promise<Omit<BaseWorker, "created_at">> {
  const { worker_id, display_name, enabled, enable_fetch, enable_eval, enable_build } = worker;
  const created_by = context.userId(worker.created_by) ?? row?.created_by ?? null;
  const wanted = {
    worker_id,
    display_name,
    token_hash: hash,
    url: worker.url == null ? null : new URL(worker.url).href,
    enabled,
    enable_fetch,
    enable_eval,
    enable_build,
    authorize_against: worker.authorize_against ?? null,
    created_by,
  };
  const id = row?.id ?? context.newId();
  if (!row) {
    await insertBaseWorker(context.trx, { id, ...wanted });
    context.note("created", `base worker ${worker_id}`);
  } else {
    const changes = differences(row, wanted);
    if (!isEmpty(changes)) {
      await updateBaseWorker(context.trx, id, changes);
      context.note("changed", `base worker ${worker_id}`);
    }
  }
  return { id, ...wanted };
}

/** An organization that has registered the worker itself keeps that. */
async function copyToRegistrations(
  context: StateContext,
  base: Omit<BaseWorker, "created_at">,
  registrations: readonly Registration[],
): Promise<void> {
  for (const row of registrations) {
    if (row.base_worker_id !== base.id) continue;
    const changes = differences(row, { ...copied(base), active: base.enabled && row.opted_in });
    if (isEmpty(changes)) continue;
    await updateStateRegistration(context.trx, row.id, changes);
    announce(context, row);
  }
}

/** The listed organizations begin with it; they may do without it later. */
async function preEnable(
  context: StateContext,
  worker: StateWorker,
  base: Omit<BaseWorker, "created_at">,
  registrations: readonly Registration[],
): Promise<void> {
  for (const name of worker.organizations) {
    const organization_id = context.organizationId(name);
    if (registrations.some((row) => row.organization_id === organization_id)) continue;
    const row = { id: context.newId(), organization_id, worker_id: base.worker_id, created_by: base.created_by };
    await insertRegistration(context.trx, {
      ...row,
      ...copied(base),
      base_worker_id: base.id,
      active: base.enabled,
    });
    announce(context, row);
    context.note("created", `base worker ${base.worker_id} for ${name}`);
  }
}

/** What a registration of a base worker has from it. */
function copied(base: Omit<BaseWorker, "created_at">) {
  const { display_name, token_hash, url, enable_fetch, enable_eval, enable_build } = base;
  return { display_name, token_hash, url, enable_fetch, enable_eval, enable_build };
}

function announce(
  context: StateContext,
  { organization_id, worker_id }: Pick<Registration, "organization_id" | "worker_id">,
): void {
  context.staleRegistrations.add(`${organization_id}/${worker_id}`);
  context.wakeups.work(organization_id);
}
