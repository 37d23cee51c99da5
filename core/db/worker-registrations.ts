import { type Insertable, type Kysely, sql, type Updateable } from "kysely";
import { AttemptOutcome } from "../domain/states.ts";
import type { Database, WorkerDescription, WorkerRegistrationRow, WorkerRegistrationTable } from "./schema.ts";
import type { WorkerSample } from "./tables/worker-sample.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

/** A session that was silent for longer is over, whether or not a server lived to write that down. */
const SILENCE_MS_MAX = 180_000;

export type RegistrationView = Omit<WorkerRegistrationRow, "token_hash" | "dial_after" | "dial_failures">;
export type RegistrationChanges = Pick<
  Updateable<WorkerRegistrationTable>,
  "active" | "display_name" | "enable_fetch" | "enable_eval" | "enable_build"
>;

export interface RegistrationWithLive extends RegistrationView {
  readonly description: WorkerDescription | null;
  readonly metrics: WorkerSample | null;
  /** Running attempts of this organization. */
  readonly assigned_job_count: number;
}

export async function listRegistrations(db: Kysely<Database>, organizationId: string): Promise<RegistrationWithLive[]> {
  return await registrations(db, organizationId).orderBy("created_at").orderBy("worker_registration.id").execute();
}

export async function findRegistration(
  db: Kysely<Database>,
  organizationId: string,
  workerId: string,
): Promise<RegistrationWithLive | undefined> {
  return await registrations(db, organizationId)
    .where("worker_registration.worker_id", "=", workerId)
    .executeTakeFirst();
}

export async function findRegistrationSecret(
  db: Kysely<Database>,
  organizationId: string,
  workerId: string,
): Promise<{ readonly id: string; readonly token_hash: string } | undefined> {
  return await db
    .selectFrom("worker_registration")
    .select(["id", "token_hash"])
    .where("organization_id", "=", organizationId)
    .where("worker_id", "=", workerId)
    .executeTakeFirst();
}

export async function countRegistrations(db: Kysely<Database>, organizationId: string): Promise<number> {
  const { total } = await db
    .selectFrom("worker_registration")
    .select(sql<number>`count(*)::int`.as("total"))
    .where("organization_id", "=", organizationId)
    .executeTakeFirstOrThrow();
  return total;
}

export async function listRegisteredWorkerIds(db: Kysely<Database>, organizationId: string): Promise<string[]> {
  const rows = await db
    .selectFrom("worker_registration")
    .select("worker_id")
    .where("organization_id", "=", organizationId)
    .execute();
  return rows.map((row) => row.worker_id);
}

export async function listRegistrationsOfWorkers(
  db: Kysely<Database>,
  workerIds: readonly string[],
): Promise<
  Pick<
    WorkerRegistrationRow,
    "organization_id" | "worker_id" | "active" | "enable_fetch" | "enable_eval" | "enable_build"
  >[]
> {
  return await db
    .selectFrom("worker_registration")
    .select(["organization_id", "worker_id", "active", "enable_fetch", "enable_eval", "enable_build"])
    .where("worker_id", "=", sql<string>`any(${workerIds}::uuid[])`)
    .execute();
}

/** Fails on `worker_registration_key`. */
export async function insertRegistration(
  db: Kysely<Database>,
  registration: Insertable<WorkerRegistrationTable>,
): Promise<void> {
  await db.insertInto("worker_registration").values(registration).execute();
}

export async function updateRegistration(
  db: Kysely<Database>,
  id: string,
  changes: RegistrationChanges & { readonly token_hash?: string },
): Promise<void> {
  if (Object.keys(changes).length === 0) return;
  await db.updateTable("worker_registration").set(changes).where("id", "=", id).execute();
}

export async function deleteRegistration(db: Kysely<Database>, id: string): Promise<void> {
  await db.deleteFrom("worker_registration").where("id", "=", id).execute();
}

function registrations(db: Kysely<Database>, organizationId: string) {
  return db
    .selectFrom("worker_registration")
    .leftJoin("worker_connection", (join) =>
      join
        .onRef("worker_connection.worker_id", "=", "worker_registration.worker_id")
        .on(sql<boolean>`worker_registration.organization_id = any(worker_connection.organization_ids)`)
        .on("disconnected_at", "is", null)
        .on("last_seen_at", ">", databaseNowPlus(-SILENCE_MS_MAX)),
    )
    .select([
      "worker_registration.id",
      "worker_registration.organization_id",
      "worker_registration.worker_id",
      "display_name",
      "url",
      "active",
      "enable_fetch",
      "enable_eval",
      "enable_build",
      "managed",
      "signing_key",
      "base_worker_id",
      "opted_in",
      "created_by",
      "created_at",
      "dial_error",
      "worker_connection.description",
      "worker_connection.metrics",
    ])
    .select((eb) =>
      eb
        .selectFrom("attempt")
        .select(sql<number>`count(*)::int`.as("count"))
        .whereRef("attempt.worker_id", "=", "worker_registration.worker_id")
        .whereRef("attempt.organization_id", "=", "worker_registration.organization_id")
        .where("attempt.outcome", "=", AttemptOutcome.Running)
        .where("attempt.lease_expires_at", ">", databaseNow)
        .$asScalar()
        .$notNull()
        .as("assigned_job_count"),
    )
    .where("worker_registration.organization_id", "=", organizationId);
}
