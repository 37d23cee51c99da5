import { type Kysely, sql } from "kysely";
import { AttemptOutcome } from "../domain/states.ts";
import type { Database, WorkerDescription } from "./schema.ts";
import type { WorkerSample } from "./tables/worker-sample.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

/** A session that was silent for longer is over, whether or not a server lived to write that down. */
const SILENCE_MS_MAX = 180_000;

export interface LiveWorker {
  readonly worker_id: string;
  readonly connected_at: Date;
  readonly description: WorkerDescription;
  readonly metrics: WorkerSample | null;
  readonly organization_ids: readonly string[];
  /** Running attempts of all organizations. */
  readonly assigned_job_count: number;
}

/** The sessions of workers with any server, longest connected first. */
export async function listLiveWorkers(db: Kysely<Database>, limit: number): Promise<LiveWorker[]> {
  return await db
    .selectFrom("worker_connection")
    .select(["worker_id", "connected_at", "description", "metrics", "organization_ids"])
    .select((eb) =>
      eb
        .selectFrom("attempt")
        .select(sql<number>`count(*)::int`.as("count"))
        .whereRef("attempt.worker_id", "=", "worker_connection.worker_id")
        .where(sql<boolean>`attempt.organization_id = any(worker_connection.organization_ids)`)
        .where("attempt.finished_at", "is", null)
        .where("attempt.outcome", "=", AttemptOutcome.Running)
        .where("attempt.lease_expires_at", ">", databaseNow)
        .$asScalar()
        .$notNull()
        .as("assigned_job_count"),
    )
    .where("disconnected_at", "is", null)
    .where("last_seen_at", ">", databaseNowPlus(-SILENCE_MS_MAX))
    .orderBy("connected_at")
    .orderBy("id")
    .limit(limit)
    .execute();
}
