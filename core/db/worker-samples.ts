import { type Kysely, sql } from "kysely";
import type { Database, WorkerDescription } from "./schema.ts";
import type { WorkerSample } from "./tables/worker-sample.ts";
import { databaseNowPlus } from "./time.ts";

export interface SampleOfSession {
  readonly connectionId: string;
  readonly sample: WorkerSample;
}

/** Keeps what workers measured: the last of each session on its row, and all of them over time. One statement. */
export async function recordWorkerSamples(db: Kysely<Database>, samples: readonly SampleOfSession[]): Promise<void> {
  if (samples.length === 0) return;
  const rows = JSON.stringify(samples.map(({ connectionId, sample }) => ({ id: connectionId, metrics: sample })));
  await sql`
    with taken as (
      update worker_connection set metrics = given.metrics
      from jsonb_to_recordset(${rows}::jsonb) as given(id uuid, metrics jsonb)
      where worker_connection.id = given.id and disconnected_at is null
      returning worker_connection.id, worker_connection.metrics
    )
    insert into worker_sample (connection_id, metrics) select id, metrics from taken
    on conflict do nothing`.execute(db);
}

/** Removes samples, and sessions that have ended, when they are older. */
export async function forgetWorkerSamples(db: Kysely<Database>, keepMs: number): Promise<void> {
  await db.deleteFrom("worker_sample").where("at", "<", databaseNowPlus(-keepMs)).execute();
  await db.deleteFrom("worker_connection").where("disconnected_at", "<", databaseNowPlus(-keepMs)).execute();
}

export interface WorkerHistory {
  readonly samples: readonly (WorkerSample & { readonly at: Date })[];
  readonly connections: readonly {
    readonly id: string;
    readonly connected_at: Date;
    readonly disconnected_at: Date | null;
    readonly description: WorkerDescription;
  }[];
  /** Attempts of the organization that the worker was ever given. */
  readonly dispatched: number;
}

/** What one organization may see of a worker: its sessions that speak for the organization. Samples oldest first. */
export async function loadWorkerHistory(
  db: Kysely<Database>,
  { organizationId, workerId }: { readonly organizationId: string; readonly workerId: string },
  { samplesMax, connectionsMax }: { readonly samplesMax: number; readonly connectionsMax: number },
): Promise<WorkerHistory> {
  const samples = await db
    .selectFrom("worker_sample")
    .innerJoin("worker_connection", "worker_connection.id", "connection_id")
    .select(["at", "worker_sample.metrics"])
    .where("worker_id", "=", workerId)
    .where(sql<boolean>`${organizationId}::uuid = any(organization_ids)`)
    .orderBy("at", "desc")
    .limit(samplesMax)
    .execute();
  const connections = await db
    .selectFrom("worker_connection")
    .select(["id", "connected_at", "disconnected_at", "description"])
    .where("worker_id", "=", workerId)
    .where(sql<boolean>`${organizationId}::uuid = any(organization_ids)`)
    .orderBy("connected_at", "desc")
    .limit(connectionsMax)
    .execute();
  const { dispatched } = await db
    .selectFrom("attempt")
    .select(sql<number>`count(*)::int`.as("dispatched"))
    .where("worker_id", "=", workerId)
    .where("organization_id", "=", organizationId)
    .executeTakeFirstOrThrow();
  return { samples: samples.map(({ at, metrics }) => ({ at, ...metrics })).reverse(), connections, dispatched };
}
