import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";
import type { BaseWorkerRow } from "./tables/state.ts";

/** Base workers that the organization has no registration of, neither its own nor theirs. */
export async function listBaseWorkersBesides(db: Kysely<Database>, organizationId: string): Promise<BaseWorkerRow[]> {
  return await db
    .selectFrom("base_worker")
    .selectAll()
    .where("worker_id", "not in", (eb) =>
      eb.selectFrom("worker_registration").select("worker_id").where("organization_id", "=", organizationId),
    )
    .orderBy("created_at")
    .orderBy("id")
    .execute();
}

/**
 * Gives the organization a registration of the base worker of this id that it has no registration of; it is off until
 * the organization wants it. False when there is no such worker.
 */
export async function offerBaseWorker(
  db: Kysely<Database>,
  { id, organizationId, workerId }: { readonly id: string; readonly organizationId: string; readonly workerId: string },
): Promise<boolean> {
  const { rows } = await sql`
    insert into worker_registration (id, organization_id, worker_id, display_name, token_hash, url, enable_fetch,
      enable_eval, enable_build, created_by, base_worker_id, opted_in, active)
    select ${id}::uuid, ${organizationId}::uuid, worker_id, display_name, token_hash, url, enable_fetch, enable_eval,
      enable_build, created_by, id, false, false
    from base_worker where worker_id = ${workerId}
    on conflict do nothing returning id`.execute(db);
  return rows.length > 0;
}

/** Whether the organization wants the base worker; it has it while the worker is enabled, too. */
export async function chooseBaseWorker(db: Kysely<Database>, registrationId: string, wanted: boolean): Promise<void> {
  await sql`
    update worker_registration r set opted_in = ${wanted}, active = ${wanted} and b.enabled
    from base_worker b where b.id = r.base_worker_id and r.id = ${registrationId}`.execute(db);
}

/** Makes room for a registration of the organization's own, which goes before that of a base worker. */
export async function deleteBaseRegistration(
  db: Kysely<Database>,
  organizationId: string,
  workerId: string,
): Promise<void> {
  await db
    .deleteFrom("worker_registration")
    .where("organization_id", "=", organizationId)
    .where("worker_id", "=", workerId)
    .where("base_worker_id", "is not", null)
    .execute();
}
