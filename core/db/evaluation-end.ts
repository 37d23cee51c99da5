import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface EndedEvaluation {
  readonly id: string;
  readonly organization_id: string;
}

/**
 * Ends those of the evaluations that are building and have nothing open, and freezes what each of their builds came to.
 * Guarded in the statement: it is safe to call at any time and from several servers at once. Two transactions that
 * finish an evaluation's last two builds at the same moment may both see the other's as open; the caller's loop asks
 * again after the commit.
 */
export async function endEvaluations(
  trx: Transaction<Database>,
  evaluationIds: readonly string[],
): Promise<readonly EndedEvaluation[]> {
  if (evaluationIds.length === 0) return [];
  const ended = await sql<EndedEvaluation>`
    update evaluation e set
      status = case when
        exists (select from evaluation_message m where m.evaluation_id = e.id and m.level = 0)
        or exists (select from evaluation_build l join build b on b.id = l.build_id
          where l.evaluation_id = e.id and b.status in (4, 5, 6, 9))
        then 6 else 5 end,
      waiting_reason = null,
      updated_at = gradient_now(),
      finished_at = gradient_now()
    where e.id = any(${evaluationIds}) and e.status = 3 and not exists (
      select from evaluation_build l join build b on b.id = l.build_id
      where l.evaluation_id = e.id and b.status in (0, 1, 2, 8))
    returning e.id, e.organization_id`.execute(trx);
  await freezeLinks(
    trx,
    ended.rows.map(({ id }) => id),
  );
  return ended.rows;
}

/** A later retry never rewrites history: each link keeps the state and the attempt that the evaluation saw. */
export async function freezeLinks(trx: Transaction<Database>, evaluationIds: readonly string[]): Promise<void> {
  if (evaluationIds.length === 0) return;
  await sql`
    update evaluation_build l set
      outcome = b.status,
      attempt_id = (select a.id from attempt a where a.build_id = b.id order by a.assigned_at desc, a.id desc limit 1)
    from build b
    where b.id = l.build_id and l.evaluation_id = any(${evaluationIds}) and l.outcome is null`.execute(trx);
}

/**
 * Evaluations that may be over now that these builds have ended: those that link one of them and nothing open that
 * rests on it. An evaluation's last build has nothing above it that is open, so none is missed.
 */
export async function listEvaluationsToEnd(db: Kysely<Database>, buildIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select distinct e.id
    from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where l.build_id = any(${buildIds}) and e.status = 3 and not exists (
      select from build_edge d
      join build b on b.id = d.build_id
      join evaluation_build above on above.build_id = b.id and above.evaluation_id = e.id
      where d.dependency_id = l.build_id and b.status in (0, 1, 2, 8))`.execute(db);
  return result.rows.map(({ id }) => id);
}

/** Every evaluation that links one of these builds and has not ended: whoever watches them wants to look again. */
export async function listEvaluationsOfBuilds(db: Kysely<Database>, buildIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select distinct e.id
    from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where l.build_id = any(${buildIds}) and e.status in (0, 1, 2, 3, 4, 8)`.execute(db);
  return result.rows.map(({ id }) => id);
}

export async function listBuildingEvaluations(db: Kysely<Database>): Promise<string[]> {
  const rows = await db.selectFrom("evaluation").select("id").where("status", "=", 3).limit(10_000).execute();
  return rows.map(({ id }) => id);
}

/** Locks the open builds of an evaluation that no other evaluation needs. In id order. */
export async function lockBuildsOnlyNeededBy(trx: Transaction<Database>, evaluationId: string): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select b.id from build b
    where b.status in (0, 1, 2, 8)
      and b.id in (select build_id from evaluation_build where evaluation_id = ${evaluationId})
      and not exists (
        select from evaluation_build l join evaluation e on e.id = l.evaluation_id
        where l.build_id = b.id and e.id <> ${evaluationId} and e.status in (0, 1, 2, 3, 4, 8))
    order by b.id for update`.execute(trx);
  return result.rows.map(({ id }) => id);
}
