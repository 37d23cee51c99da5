import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import { OPEN_ATTEMPT, type OpenAttempt, type ProvenWorker } from "./attempts.ts";
import type { Database } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

/** By so much of itself a lease is longer than it has to be: what was given or prolonged just now is left alone. */
const SPARE_SHARE = 0.1;
/** Of a lease: with less than this left, whoever holds the row is waited for. */
const URGENT_SHARE = 0.5;

/** When a lease ends whose worker is heard now, and not again: `leaseMs` from now at the earliest. */
export function leaseEnd(leaseMs: number): RawBuilder<Date> {
  return databaseNowPlus(leaseMs * (1 + SPARE_SHARE));
}

/**
 * Prolongs the open leases of a worker that was just heard. It comes often and is in nobody's way: most builds end
 * before anybody prolongs them, and a row that another transaction holds, mostly to end it, is left for the next time
 * while there is plenty left of its lease.
 */
export async function extendLeases(db: Kysely<Database>, worker: ProvenWorker, leaseMs: number): Promise<void> {
  await extendThose(db, worker, { leaseMs, leftMs: leaseMs, locked: sql`skip locked` });
  await extendThose(db, worker, { leaseMs, leftMs: leaseMs * URGENT_SHARE, locked: sql`` });
}

interface Extension {
  readonly leaseMs: number;
  /** Leases with less than this left are prolonged. */
  readonly leftMs: number;
  readonly locked: RawBuilder<unknown>;
}

async function extendThose(
  db: Kysely<Database>,
  { workerId, organizationIds }: ProvenWorker,
  { leaseMs, leftMs, locked }: Extension,
): Promise<void> {
  // In id order, as everybody locks them.
  await sql`
    update attempt set lease_expires_at = ${leaseEnd(leaseMs)}
    where id in (
      select id from attempt
      where worker_id = ${workerId} and organization_id = any(${organizationIds}::uuid[]) and finished_at is null
        and lease_expires_at < ${databaseNowPlus(leftMs)}
      order by id for no key update ${locked})`.execute(db);
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
