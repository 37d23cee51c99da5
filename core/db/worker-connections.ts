import { type Kysely, sql, type Transaction } from "kysely";
import type { Database, WorkerDescription } from "./schema.ts";
import { databaseNow } from "./time.ts";
import { inTransaction, type RetryPorts } from "./transaction.ts";

/** Records a worker's session as the open one; an older one of the same worker is closed with it. */
export async function openWorkerConnection(
  db: Kysely<Database>,
  connection: { readonly id: string; readonly workerId: string; readonly description: WorkerDescription },
  ports?: RetryPorts,
): Promise<void> {
  const open = async (trx: Transaction<Database>) => {
    // Two sessions of one worker may open at once, on two servers: the later one waits, and then closes the other.
    await sql`select pg_advisory_xact_lock(hashtextextended(${connection.workerId}, 0))`.execute(trx);
    await trx
      .updateTable("worker_connection")
      .set({ disconnected_at: databaseNow })
      .where("worker_id", "=", connection.workerId)
      .where("disconnected_at", "is", null)
      .execute();
    await trx
      .insertInto("worker_connection")
      .values({
        id: connection.id,
        worker_id: connection.workerId,
        description: JSON.stringify(connection.description),
      })
      .execute();
  };
  await inTransaction(db, open, ports);
}

export async function touchWorkerConnection(db: Kysely<Database>, id: string): Promise<void> {
  await db.updateTable("worker_connection").set({ last_seen_at: databaseNow }).where("id", "=", id).execute();
}

export async function closeWorkerConnection(db: Kysely<Database>, id: string): Promise<void> {
  await db
    .updateTable("worker_connection")
    .set({ disconnected_at: databaseNow })
    .where("id", "=", id)
    .where("disconnected_at", "is", null)
    .execute();
}

/** At a start: no session survives the server that held it. */
export async function closeAllWorkerConnections(db: Kysely<Database>): Promise<void> {
  await db
    .updateTable("worker_connection")
    .set({ disconnected_at: databaseNow })
    .where("disconnected_at", "is", null)
    .execute();
}
