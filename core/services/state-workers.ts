import type { Selectable } from "kysely";
import type { StateWorker } from "../api/state.ts";
import type { WorkerRegistrationTable } from "../db/schema.ts";
import { insertManaged } from "../db/state-rows.ts";
import { deleteStateRegistration, lockStateRegistrations, updateStateRegistration } from "../db/state-workers.ts";
import { reconcileBaseWorkers } from "./state-base-workers.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { tokenHash } from "./state-worker-tokens.ts";

type Registration = Awaited<ReturnType<typeof lockStateRegistrations>>[number];

/**
 * Registrations of workers, one for each organization that a worker is declared for. What is not declared any more goes
 * in any case: nothing is lost with it, and a token that nobody declares must let nobody in.
 */
export async function reconcileWorkers(context: StateContext): Promise<void> {
  const { document, trx } = context;
  const own = document.workers.filter(({ base_worker }) => !base_worker);
  const rows = await lockStateRegistrations(
    trx,
    own.map(({ worker_id }) => worker_id),
  );
  const known = new Map(rows.map((row) => [placeOf(row), row]));
  const declared = new Set<string>();
  for (const worker of own) {
    const ofWorker = rows.filter(({ worker_id }) => worker_id === worker.worker_id);
    const hash = await tokenHash(context, worker, ofWorker);
    if (hash === null) continue;
    for (const name of worker.organizations) {
      const organization_id = context.organizationId(name);
      const place = placeOf({ organization_id, worker_id: worker.worker_id });
      declared.add(place);
      const row = known.get(place);
      // Where the file names no token, each organization goes on with its own.
      const token_hash = worker.token_file == null ? (row?.token_hash ?? hash) : hash;
      await putRegistration(context, { worker, name, organization_id, token_hash }, row);
    }
  }
  for (const row of rows) {
    if (!row.managed || declared.has(placeOf(row))) continue;
    await deleteStateRegistration(trx, row.id);
    announce(context, row);
    context.note("deleted", `worker ${row.worker_id} of ${row.organization_name}`);
  }
  await reconcileBaseWorkers(context);
}

async function putRegistration(
  context: StateContext,
  {
    worker,
    name,
    organization_id,
    token_hash,
  }: {
    readonly worker: StateWorker;
    readonly name: string;
    readonly organization_id: string;
    readonly token_hash: string;
  },
  row: Registration | undefined,
): Promise<void> {
  const { worker_id, display_name, enable_fetch, enable_eval, enable_build } = worker;
  const wanted = {
    display_name,
    token_hash,
    url: worker.url == null ? null : new URL(worker.url).href,
    active: worker.enabled,
    enable_fetch,
    enable_eval,
    enable_build,
    // The organization's own registration goes before a base worker's.
    base_worker_id: null,
    opted_in: true,
  };
  const created_by = context.userId(worker.created_by);
  const what = `worker ${worker_id} of ${name}`;
  if (!row) {
    const columns = { id: context.newId(), organization_id, worker_id, created_by, ...wanted };
    await insertManaged(context.trx, "worker_registration", columns);
    announce(context, { organization_id, worker_id });
    return context.note("created", what);
  }
  const author = created_by === null ? {} : { created_by };
  const changes = differences(row, { ...wanted, ...author, managed: true });
  if (isEmpty(changes)) return;
  await updateStateRegistration(context.trx, row.id, changes);
  announce(context, row);
  context.note(row.managed ? "changed" : "taken over", what);
}

function announce(
  context: StateContext,
  { organization_id, worker_id }: Pick<Selectable<WorkerRegistrationTable>, "organization_id" | "worker_id">,
): void {
  context.staleRegistrations.add(`${organization_id}/${worker_id}`);
  context.wakeups.work(organization_id);
}

function placeOf({
  organization_id,
  worker_id,
}: Pick<Selectable<WorkerRegistrationTable>, "organization_id" | "worker_id">): string {
  return `${organization_id}/${worker_id}`;
}
