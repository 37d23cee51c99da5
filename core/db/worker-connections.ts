import { type Kysely, sql, type Transaction } from "kysely";
import type { Database, WorkerDescription } from "./schema.ts";
import { databaseNow } from "./time.ts";
import { inTransaction, type RetryPorts } from "./transaction.ts";

export interface NewWorkerConnection {
  readonly id: string;
  readonly workerId: string;
  /** The server that holds the session. */
  readonly serverId: string;
  /** Those that the worker has proved itself to. Nobody else sees this session. */
  readonly organizationIds: readonly string[];
  readonly description: WorkerDescription;
}

/**
 * Records a worker's session as the open one of its organizations. Older ones of the same worker id lose these
 * organizations, and those that are left with none are closed.
 */
export async function openWorkerConnection(
  db: Kysely<Database>,
  { id, workerId, serverId, organizationIds, description }: NewWorkerConnection,
  ports?: RetryPorts,
): Promise<void> {
  const open = async (trx: Transaction<Database>) => {
    // Two sessions of one worker may open at once, on two servers: the later one waits, and then closes the other.
    await sql`select pg_advisory_xact_lock(hashtextextended(${workerId}, 0))`.execute(trx);
    await sql`
      update worker_connection set
        organization_ids = array(select unnest(organization_ids) except select unnest(${organizationIds}::uuid[])),
        disconnected_at = case when organization_ids <@ ${organizationIds}::uuid[] then gradient_now() end
      where worker_id = ${workerId} and disconnected_at is null
        and (organization_ids && ${organizationIds}::uuid[] or organization_ids = '{}')`.execute(trx);
    await trx
      .insertInto("worker_connection")
      .values({
        id,
        worker_id: workerId,
        // Null when others have just given the server up: the session ends, and the worker comes back.
        server_id: sql<string>`(select id from server where id = ${serverId})`,
        organization_ids: sql<string[]>`${organizationIds}::uuid[]`,
        description: JSON.stringify(description),
      })
      .execute();
  };
  await inTransaction(db, open, ports);
}

/** What a worker told of itself in mid-session. */
export async function describeWorkerConnection(
  db: Kysely<Database>,
  id: string,
  description: WorkerDescription,
): Promise<void> {
  await db
    .updateTable("worker_connection")
    .set({ description: JSON.stringify(description) })
    .where("id", "=", id)
    .execute();
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

/** Those of these sessions that are open, with the organizations that each still speaks for. */
export async function listOpenConnections(
  db: Kysely<Database>,
  ids: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const rows = await db
    .selectFrom("worker_connection")
    .select(["id", "organization_ids"])
    .where("id", "=", sql<string>`any(${ids}::uuid[])`)
    .where("disconnected_at", "is", null)
    .execute();
  return new Map(rows.map((row) => [row.id, row.organization_ids]));
}

/** Whether the session is open, and no newer one of its worker opens before the transaction ends. */
export async function shareOpenConnection(trx: Transaction<Database>, id: string): Promise<boolean> {
  const row = await trx
    .selectFrom("worker_connection")
    .select("id")
    .where("id", "=", id)
    .where("disconnected_at", "is", null)
    .forShare()
    .executeTakeFirst();
  return row !== undefined;
}
