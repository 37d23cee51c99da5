import { type Kysely, sql, type Transaction } from "kysely";
import type { LostAttempts } from "../domain/failure.ts";
import { AttemptKind, AttemptOutcome, AttemptReason } from "../domain/states.ts";
import type { AttemptRow, Database } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export type OpenAttempt = Pick<
  AttemptRow,
  "id" | "kind" | "organization_id" | "evaluation_id" | "build_id" | "worker_id" | "started_at" | "log_bytes"
>;

export const OPEN_ATTEMPT = [
  "id",
  "kind",
  "organization_id",
  "evaluation_id",
  "build_id",
  "worker_id",
  "started_at",
  "log_bytes",
] as const;

/** The attempt while its lease holds, locked. Undefined once it has ended: what comes late is refused without harm. */
export async function lockOpenAttempt(trx: Transaction<Database>, id: string): Promise<OpenAttempt | undefined> {
  return await trx
    .selectFrom("attempt")
    .select(OPEN_ATTEMPT)
    .where("id", "=", id)
    .where("finished_at", "is", null)
    .forUpdate()
    .executeTakeFirst();
}

/** The same without holding off other readers: for what only needs the lease to hold until the transaction ends. */
export async function shareOpenAttempt(trx: Transaction<Database>, id: string): Promise<OpenAttempt | undefined> {
  return await trx
    .selectFrom("attempt")
    .select(OPEN_ATTEMPT)
    .where("id", "=", id)
    .where("finished_at", "is", null)
    .forShare()
    .executeTakeFirst();
}

export interface AttemptEnd {
  readonly outcome: AttemptOutcome;
  readonly reason: AttemptReason | null;
  readonly message: string | null;
  /** How long the builder ran, for an attempt whose start was not recorded when it happened. */
  readonly ranForMs?: number;
}

/** Ends leases. Those that have ended already stay as they are. */
export async function endAttempts(
  trx: Transaction<Database>,
  ids: readonly string[],
  { outcome, reason, message, ranForMs }: AttemptEnd,
): Promise<void> {
  const started =
    ranForMs === undefined ? {} : { started_at: sql<Date>`coalesce(started_at, ${databaseNowPlus(-ranForMs)})` };
  await trx
    .updateTable("attempt")
    .set({ outcome, reason, message, finished_at: databaseNow, ...started })
    .where("id", "=", sql<string>`any(${ids})`)
    .where("finished_at", "is", null)
    .execute();
}

/** Of those that have ended it is not changed: their results said it. */
export async function markAttemptsStarted(
  db: Kysely<Database>,
  attempts: readonly { readonly id: string; readonly runningMs: number }[],
): Promise<void> {
  await sql`
    update attempt set started_at = gradient_now() - s.running_ms * interval '1 millisecond'
    from unnest(${attempts.map(({ id }) => id)}::uuid[], ${attempts.map(({ runningMs }) => runningMs)}::float8[])
      as s(id, running_ms)
    where attempt.id = s.id and started_at is null and finished_at is null`.execute(db);
}

/**
 * A worker by what it has proved. Its id alone says nothing: any organization may register any id, so what a worker
 * does about attempts ends at the organizations whose tokens it has.
 */
export interface ProvenWorker {
  readonly workerId: string;
  readonly organizationIds: readonly string[];
}

/** Locks the open leases of a worker, in id order. */
export async function lockAttemptsOfWorker(
  trx: Transaction<Database>,
  { workerId, organizationIds }: ProvenWorker,
): Promise<OpenAttempt[]> {
  return await trx
    .selectFrom("attempt")
    .select(OPEN_ATTEMPT)
    .where("finished_at", "is", null)
    .where("worker_id", "=", workerId)
    .where("organization_id", "=", sql<string>`any(${organizationIds}::uuid[])`)
    .orderBy("id")
    .forUpdate()
    .execute();
}

/** How often a subject was given to a worker that then lost it: not when people or the worker itself stopped it. */
export async function countLostAttempts(
  db: Kysely<Database>,
  kind: number,
  subjectIds: readonly string[],
): Promise<ReadonlyMap<string, LostAttempts>> {
  const column = kind === AttemptKind.Build ? "build_id" : "evaluation_id";
  const rows = await db
    .selectFrom("attempt")
    .select([column, sql<number>`count(*)::int`.as("count")])
    // Of evaluations nobody records when they begin: a worker takes them when it has a place.
    .select(sql<number>`count(*) filter (where started_at is null and kind = ${AttemptKind.Build})::int`.as("idle"))
    .where(column, "=", sql<string>`any(${subjectIds})`)
    .where("outcome", "=", AttemptOutcome.Aborted)
    .where("reason", "=", AttemptReason.Network)
    .groupBy(column)
    .execute();
  return new Map(rows.map((row) => [row[column] as string, { begun: row.count - row.idle, idle: row.idle }]));
}
