import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import { inTransaction, type RetryPorts } from "./transaction.ts";

/**
 * Records what a session's worker has proved in mid-session. Other open sessions of the same worker id lose these
 * organizations, and those that are left with none are closed. A session that has ended stays ended.
 */
export async function regrantWorkerConnection(
  db: Kysely<Database>,
  {
    id,
    workerId,
    organizationIds,
  }: { readonly id: string; readonly workerId: string; readonly organizationIds: readonly string[] },
  ports?: RetryPorts,
): Promise<void> {
  const regrant = async (trx: Transaction<Database>) => {
    // The same lock as for a session that opens: whoever comes later has the last word.
    await sql`select pg_advisory_xact_lock(hashtextextended(${workerId}, 0))`.execute(trx);
    await sql`
      update worker_connection set
        organization_ids = array(select unnest(organization_ids) except select unnest(${organizationIds}::uuid[])),
        disconnected_at = case when organization_ids <@ ${organizationIds}::uuid[] then gradient_now() end
      where worker_id = ${workerId} and id <> ${id} and disconnected_at is null
        and organization_ids && ${organizationIds}::uuid[]`.execute(trx);
    await sql`
      update worker_connection set organization_ids = ${organizationIds}::uuid[]
      where id = ${id} and disconnected_at is null`.execute(trx);
  };
  await inTransaction(db, regrant, ports);
}
