import { type Kysely, sql, type Transaction } from "kysely";
import { OPEN_ATTEMPT, type OpenAttempt, type ProvenWorker } from "./attempts.ts";
import type { Database } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

/** Prolongs every open lease of a worker that was just heard. */
export async function extendLeases(
  db: Kysely<Database>,
  { workerId, organizationIds }: ProvenWorker,
  leaseMs: number,
): Promise<void> {
  // In id order, as everybody locks them.
  await sql`
    update attempt set lease_expires_at = ${databaseNowPlus(leaseMs)}
    where id in (
      select id from attempt
      where worker_id = ${workerId} and organization_id = any(${organizationIds}::uuid[]) and finished_at is null
      order by id for no key update)`.execute(db);
}

/**
 * At a start: while no server ran, no worker could be heard, so no lease ends before one whole lease time from now.
 */
export async function extendAllLeases(db: Kysely<Database>, leaseMs: number): Promise<void> {
  await sql`
    update attempt set lease_expires_at = greatest(lease_expires_at, ${databaseNowPlus(leaseMs)})
    where id in (select id from attempt where finished_at is null order by id for no key update)`.execute(db);
}

/** Locks leases of builds that ran out, in id order. */
export async function lockExpiredBuilds(trx: Transaction<Database>, limit: number): Promise<OpenAttempt[]> {
  return await trx
    .selectFrom("attempt")
    .select(OPEN_ATTEMPT)
    .where("finished_at", "is", null)
    .where("build_id", "is not", null)
    .where("lease_expires_at", "<", databaseNow)
    .orderBy("id")
    .limit(limit)
    .forUpdate()
    .skipLocked()
    .execute();
}

/** Leases of evaluations that ran out. Not locked. */
export async function listExpiredEvaluations(db: Kysely<Database>, limit: number): Promise<OpenAttempt[]> {
  return await db
    .selectFrom("attempt")
    .select(OPEN_ATTEMPT)
    .where("finished_at", "is", null)
    .where("evaluation_id", "is not", null)
    .where("lease_expires_at", "<", databaseNow)
    .orderBy("id")
    .limit(limit)
    .execute();
}

/** As `lockOpenAttempt`, when the lease has run out. */
export async function lockExpiredAttempt(trx: Transaction<Database>, id: string): Promise<OpenAttempt | undefined> {
  return await trx
    .selectFrom("attempt")
    .select(OPEN_ATTEMPT)
    .where("id", "=", id)
    .where("finished_at", "is", null)
    .where("lease_expires_at", "<", databaseNow)
    .forUpdate()
    .executeTakeFirst();
}
