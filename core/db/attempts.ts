import { type Kysely, sql, type Transaction } from "kysely";
import { AttemptKind, AttemptOutcome, AttemptReason } from "../domain/states.ts";
import type { AttemptRow, Database } from "./schema.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export interface BuildClaim {
  readonly workerId: string;
  /** The organizations whose builds this worker may run. */
  readonly organizationIds: readonly string[];
  readonly systems: readonly string[];
  readonly features: readonly string[];
  readonly limit: number;
}

export interface ClaimedBuild {
  readonly id: string;
  readonly organization_id: string;
  readonly drv_path: string;
  readonly timeout_seconds: number | null;
  readonly max_silent_seconds: number | null;
}

/**
 * Takes at most `limit` ready builds, highest priority first, then the longest ready. Takes a transaction: the rows
 * stay locked until the leases are recorded, and a second server skips them instead of waiting.
 */
export async function claimBuilds(trx: Transaction<Database>, claim: BuildClaim): Promise<ClaimedBuild[]> {
  const result = await sql<ClaimedBuild>`
    with next as (
      select id from build
      where status = 1
        and organization_id = any(${claim.organizationIds}::uuid[])
        and (system = any(${claim.systems}::text[]) or system = 'builtin')
        and required_features <@ ${claim.features}::text[]
      order by priority desc, ready_at, id
      limit ${claim.limit}
      for no key update skip locked
    )
    update build set status = 2, updated_at = gradient_now()
    from next where build.id = next.id
    returning build.id, build.organization_id, build.drv_path, build.timeout_seconds, build.max_silent_seconds
  `.execute(trx);
  return result.rows;
}

export interface ClaimedEvaluation {
  readonly id: string;
  readonly organization_id: string;
  readonly repository: string;
  readonly commit_hash: string;
  readonly wildcard: string;
}

export async function hasQueuedEvaluation(db: Kysely<Database>, organizationIds: readonly string[]): Promise<boolean> {
  const row = await db
    .selectFrom("evaluation")
    .select("id")
    .where("status", "=", 0)
    .where("organization_id", "=", sql<string>`any(${organizationIds}::uuid[])`)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Takes at most `limit` queued evaluations, the oldest first. */
export async function claimEvaluations(
  trx: Transaction<Database>,
  { organizationIds, limit }: { readonly organizationIds: readonly string[]; readonly limit: number },
): Promise<ClaimedEvaluation[]> {
  const result = await sql<ClaimedEvaluation>`
    with next as (
      select id from evaluation
      where status = 0 and organization_id = any(${organizationIds}::uuid[])
      order by ordinal
      limit ${limit}
      for no key update skip locked
    )
    update evaluation set status = 8, updated_at = gradient_now(), fetch_started_at = gradient_now()
    from next where evaluation.id = next.id
    returning evaluation.id, evaluation.organization_id, evaluation.repository, evaluation.commit_hash,
      evaluation.wildcard`.execute(trx);
  return result.rows;
}

export interface NewAttempt {
  readonly id: string;
  readonly kind: number;
  readonly organization_id: string;
  readonly evaluation_id: string | null;
  readonly build_id: string | null;
  readonly worker_id: string;
}

/** Records leases. A second open lease on one subject violates a unique index. */
export async function insertAttempts(
  trx: Transaction<Database>,
  attempts: readonly NewAttempt[],
  leaseMs: number,
): Promise<void> {
  if (attempts.length === 0) return;
  await trx
    .insertInto("attempt")
    .values(attempts.map((attempt) => ({ ...attempt, lease_expires_at: databaseNowPlus(leaseMs) })))
    .execute();
}

export interface BuildInputs {
  readonly aterm: Uint8Array;
  /** Base names: outputs of dependencies that are needed, and input sources. */
  readonly inputs: readonly string[];
}

/** What a worker needs for each of these builds. Every dependency's needed output has a path by now. */
export async function loadBuildInputs(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<ReadonlyMap<string, BuildInputs>> {
  const derivations = await db
    .selectFrom("build_derivation")
    .select(["build_id", "aterm"])
    .where("build_id", "=", sql<string>`any(${buildIds})`)
    .execute();
  const inputs = await sql<{ build_id: string; store_path: string }>`
    select e.build_id, o.store_path
    from build_edge e join build_output o on o.build_id = e.dependency_id and o.name = any(e.outputs)
    where e.build_id = any(${buildIds}) and o.store_path is not null
    union
    select build_id, store_path from build_source where build_id = any(${buildIds})`.execute(db);
  const paths = Map.groupBy(inputs.rows, (row) => row.build_id);
  return new Map(
    derivations.map(({ build_id, aterm }) => [
      build_id,
      { aterm, inputs: (paths.get(build_id) ?? []).map((row) => row.store_path) },
    ]),
  );
}

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

export async function markAttemptStarted(db: Kysely<Database>, id: string): Promise<void> {
  await db
    .updateTable("attempt")
    .set({ started_at: databaseNow })
    .where("id", "=", id)
    .where("started_at", "is", null)
    .where("finished_at", "is", null)
    .execute();
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
): Promise<ReadonlyMap<string, number>> {
  const column = kind === AttemptKind.Build ? "build_id" : "evaluation_id";
  const rows = await db
    .selectFrom("attempt")
    .select([column, (eb) => eb.fn.countAll<number>().as("count")])
    .where(column, "=", sql<string>`any(${subjectIds})`)
    .where("outcome", "=", AttemptOutcome.Aborted)
    .where("reason", "=", AttemptReason.Network)
    .groupBy(column)
    .execute();
  return new Map(rows.map((row) => [row[column] as string, row.count]));
}
