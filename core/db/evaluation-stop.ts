import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import { waitingAbove } from "./build-transitions.ts";
import type { Database } from "./schema.ts";

/** After as many rounds that met newcomers, the last ones are waited for. */
const ROUNDS_MAX = 5;

/**
 * Locks what it takes to stop an evaluation, in the order of all transitions: its open attempts and those of the builds
 * it links, its open builds, and last its own row. Rows of one kind in id order. Who comes after that can neither be
 * given out nor end before this transaction does.
 */
export async function lockToStop(trx: Transaction<Database>, evaluationId: string): Promise<void> {
  const attempts = openAttempts(evaluationId);
  await lockInOrder(trx, { attempts, builds: openBuilds(evaluationId), evaluationId, batches: "none" });
}

/**
 * Locks what it takes to stop one build of an evaluation: its open attempts, it and all that waits for it, and last the
 * evaluation's row. Answers the builds, itself among them while it is open. Batches of the evaluation go on: one that
 * puts something above these builds locks them.
 */
export async function lockToStopBuild(
  trx: Transaction<Database>,
  { evaluationId, buildId }: { readonly evaluationId: string; readonly buildId: string },
): Promise<ReadonlySet<string>> {
  const attempts = sql<{ id: string }>`
    select a.id from attempt a where a.build_id = ${buildId} and a.finished_at is null`;
  const builds = sql<{ id: string }>`
    select b.id from build b where b.id = ${buildId} and b.status in (0, 1, 2, 8)
    union
    select above.build_id as id from (${waitingAbove([buildId])}) above`;
  return await lockInOrder(trx, { attempts, builds, evaluationId, batches: "go on" });
}

interface ToLock {
  readonly attempts: RawBuilder<{ id: string }>;
  readonly builds: RawBuilder<{ id: string }>;
  readonly evaluationId: string;
  /** What the evaluation may report from now on. */
  readonly batches: "none" | "go on";
}

async function lockInOrder(
  trx: Transaction<Database>,
  { attempts, builds, evaluationId, batches }: ToLock,
): Promise<ReadonlySet<string>> {
  for (let round = 1; ; round++) {
    await sql`savepoint before_stop`.execute(trx);
    await sql`
      select id from attempt where id in (${attempts}) and finished_at is null
      order by id for no key update`.execute(trx);
    const open = await sql<{ id: string }>`
      select id from build where id in (${builds}) and status in (0, 1, 2, 8)
      order by id for no key update`.execute(trx);
    // A batch holds the key of its evaluation (`ingestBatch`).
    const strength = batches === "none" ? sql`update` : sql`no key update`;
    await sql`select id from evaluation where id = ${evaluationId} for ${strength}`.execute(trx);
    const locked = new Set(open.rows.map(({ id }) => id));
    if (round === ROUNDS_MAX || (await nothingCameBetween(trx, { attempts, builds }, locked))) {
      await sql`release savepoint before_stop`.execute(trx);
      return locked;
    }
    // Who ends a newcomer holds it and waits for what is locked here: all is let go, and taken in order again.
    await sql`rollback to savepoint before_stop`.execute(trx);
  }
}

/** Builds may have been given out, or opened again, while locks were waited for. Newcomers that are free are locked. */
async function nothingCameBetween(
  trx: Transaction<Database>,
  { attempts, builds }: Pick<ToLock, "attempts" | "builds">,
  locked: ReadonlySet<string>,
): Promise<boolean> {
  const now = await builds.execute(trx);
  if (now.rows.some(({ id }) => !locked.has(id))) return false;
  const open = await attempts.execute(trx);
  const free = await sql<{ id: string }>`
    select id from attempt where id in (${attempts}) and finished_at is null
    for no key update skip locked`.execute(trx);
  return free.rows.length === open.rows.length;
}

/** The evaluation that an open attempt evaluates. Not locked. */
export async function findEvaluationOfAttempt(
  db: Kysely<Database>,
  attemptId: string,
): Promise<string | null | undefined> {
  const attempt = await db
    .selectFrom("attempt")
    .select("evaluation_id")
    .where("id", "=", attemptId)
    .where("finished_at", "is", null)
    .executeTakeFirst();
  return attempt?.evaluation_id;
}

const openBuilds = (evaluationId: string) => sql<{ id: string }>`
  select b.id from evaluation_build l join build b on b.id = l.build_id
  where l.evaluation_id = ${evaluationId} and l.outcome is null and b.status in (0, 1, 2, 8)`;

const openAttempts = (evaluationId: string) => sql<{ id: string }>`
  select a.id from attempt a where a.finished_at is null and a.evaluation_id = ${evaluationId}
  union all
  select a.id from evaluation_build l join attempt a on a.build_id = l.build_id
  where l.evaluation_id = ${evaluationId} and l.outcome is null and a.finished_at is null`;
