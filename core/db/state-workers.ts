import { type Insertable, sql, type Transaction, type Updateable } from "kysely";
import type { Database, WorkerRegistrationTable } from "./schema.ts";
import type { BaseWorkerTable } from "./tables/state.ts";

/** Of these workers, and those that were declared before. */
export async function lockStateRegistrations(trx: Transaction<Database>, workerIds: readonly string[]) {
  return await trx
    .selectFrom("worker_registration")
    .innerJoin("organization", "organization.id", "worker_registration.organization_id")
    .selectAll("worker_registration")
    .select("organization.name as organization_name")
    .where((eb) =>
      eb.or([sql<boolean>`worker_id = any(${workerIds}::uuid[])`, eb("worker_registration.managed", "=", true)]),
    )
    .orderBy("worker_registration.id")
    .forNoKeyUpdate("worker_registration")
    .execute();
}

export async function updateStateRegistration(
  trx: Transaction<Database>,
  id: string,
  changes: Updateable<WorkerRegistrationTable>,
): Promise<void> {
  const dial = { dial_after: null, dial_error: null, dial_failures: 0 };
  await trx
    .updateTable("worker_registration")
    .set({ ...changes, ...("url" in changes || "active" in changes ? dial : {}) })
    .where("id", "=", id)
    .execute();
}

export async function deleteStateRegistration(trx: Transaction<Database>, id: string): Promise<void> {
  await trx.deleteFrom("worker_registration").where("id", "=", id).execute();
}

export async function lockBaseWorkers(trx: Transaction<Database>) {
  return await trx.selectFrom("base_worker").selectAll().orderBy("id").forUpdate().execute();
}

export async function insertBaseWorker(trx: Transaction<Database>, row: Insertable<BaseWorkerTable>): Promise<void> {
  await trx.insertInto("base_worker").values(row).execute();
}

export async function updateBaseWorker(
  trx: Transaction<Database>,
  id: string,
  changes: Updateable<BaseWorkerTable>,
): Promise<void> {
  await trx.updateTable("base_worker").set(changes).where("id", "=", id).execute();
}

/** With the registrations that organizations have of it. */
export async function deleteBaseWorker(trx: Transaction<Database>, id: string): Promise<void> {
  await trx.deleteFrom("base_worker").where("id", "=", id).execute();
}
