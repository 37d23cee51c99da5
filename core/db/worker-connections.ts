import type { Kysely } from "kysely";
import type { Database, WorkerDescription } from "./schema.ts";
import { databaseNow } from "./time.ts";

/** Records a worker's session as the open one; an older one of the same worker is closed with it. */
export async function openWorkerConnection(
  db: Kysely<Database>,
  connection: { readonly id: string; readonly workerId: string; readonly description: WorkerDescription },
): Promise<void> {
  await db.transaction().execute(async (trx) => {
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
  });
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
