import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import { openVerdicts } from "./verdicts.ts";

/** The evaluation `e` has been evaluated and waits for builds, whether or not one of them goes on. */
const isBuilding = sql`(e.status = 3 or (e.status = 4 and e.building_started_at is not null))`;

/**
 * Of builds that may be among those of the evaluation `e`, how many are looked at before all of its own are. They are
 * read from an index that holds no others, the newest first: before those stand the remains of what has ended.
 */
const LIKELY_OPEN = 64;

/** The evaluation `e` waits for one of these builds: one that was taken out of it is none of its business any more. */
const waitsForOneOf = (builds: RawBuilder<unknown>) => sql`exists (
  select from (${builds} limit ${sql.lit(LIKELY_OPEN)}) b
  join lateral (select from evaluation_build l
    where l.evaluation_id = e.id and l.build_id = b.id and l.outcome is null offset 0) l on true)`;

/**
 * The evaluation `e` waits for a build. Nearly always one of those that run, or one that could, tells: to look through
 * all of its links, each time that one of its builds ends, would cost the square of their number.
 */
const hasOpenBuild = sql`case
  when ${waitsForOneOf(sql`
    select a.build_id as id from attempt a where a.finished_at is null and a.build_id is not null
    order by a.build_id desc`)}
  then true
  when ${waitsForOneOf(sql`
    select b.id from build b where b.status = 1 and b.organization_id = e.organization_id
    order by b.system desc, b.required_features desc, b.priority desc, b.ready_at desc, b.id desc`)}
  then true
  else exists (
    select from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = e.id and l.outcome is null and b.status in (0, 1, 2, 8)) end`;

/**
 * Nothing that the evaluation `e` waits for rests on the build of its link `l`. Each `offset 0` keeps the order: from
 * the edges up, and no further than the first that is open. Without statistics PostgreSQL would rather begin with all
 * links of the evaluation, for each build anew.
 */
export const nothingOpenAbove: RawBuilder<boolean> = sql<boolean>`not exists (
  select from (select d.build_id from build_edge d where d.dependency_id = l.build_id offset 0) d
  join lateral (select b.id from build b where b.id = d.build_id and b.status in (0, 1, 2, 8) offset 0) b on true
  join lateral (select from evaluation_build above
    where above.evaluation_id = e.id and above.build_id = b.id and above.outcome is null offset 0) above on true)`;

export interface EndedEvaluation {
  readonly id: string;
  readonly organization_id: string;
}

/**
 * Ends those of the evaluations that are building and have nothing open, and freezes what each of their builds came to.
 * Guarded in the statement: it is safe to call at any time and from several servers at once. Of two transactions that
 * finish an evaluation's last two builds at the same moment, or its last build and its evaluation, the second waits for
 * the first, and ends it.
 */
export async function endEvaluations(
  trx: Transaction<Database>,
  evaluationIds: readonly string[],
): Promise<readonly EndedEvaluation[]> {
  if (evaluationIds.length === 0) return [];
  await sql`
    select id from evaluation where id = any(${evaluationIds}) and status in (0, 1, 2, 3, 4, 8)
    order by id for no key update`.execute(trx);
  return await endLockedEvaluations(trx, evaluationIds);
}

/** `endEvaluations` for whoever has locked them in an earlier statement. */
export async function endLockedEvaluations(
  trx: Transaction<Database>,
  evaluationIds: readonly string[],
): Promise<readonly EndedEvaluation[]> {
  if (evaluationIds.length === 0) return [];
  // One statement, so that the links keep the very states that the end was decided on.
  const ended = await sql<EndedEvaluation>`
    with ended as (
      update evaluation e set
        status = case when
          exists (select from evaluation_message m where m.evaluation_id = e.id and m.level = 0)
          or exists (select from evaluation_build l join build b on b.id = l.build_id
            where l.evaluation_id = e.id and coalesce(l.outcome, b.status) in (4, 5, 6, 9))
          then 6 else 5 end,
        waiting_reason = null,
        updated_at = gradient_now(),
        finished_at = gradient_now()
      where e.id = any(${evaluationIds}) and ${isBuilding} and not ${hasOpenBuild}
      returning e.id, e.organization_id
    ), frozen as (
      update evaluation_build l set outcome = b.status, attempt_id = ${lastAttempt}
      from build b
      where b.id = l.build_id and l.evaluation_id in (select id from ended) and l.outcome is null
    )
    select id, organization_id from ended`.execute(trx);
  await openVerdicts(
    trx,
    ended.rows.map(({ id }) => id),
  );
  return ended.rows;
}

const lastAttempt = sql`(
  select a.id from attempt a where a.build_id = b.id order by a.assigned_at desc, a.id desc limit 1)`;

/**
 * For an evaluation that is stopped: each link keeps the state and the attempt that the evaluation saw, so that a later
 * retry does not rewrite history. What goes on for others was aborted as far as this evaluation is concerned.
 */
export async function freezeLinks(trx: Transaction<Database>, evaluationId: string): Promise<void> {
  await sql`
    update evaluation_build l set
      outcome = case when b.status in (0, 1, 2, 8) then 5 else b.status end,
      attempt_id = ${lastAttempt}
    from build b
    where b.id = l.build_id and l.evaluation_id = ${evaluationId} and l.outcome is null`.execute(trx);
}

/**
 * Evaluations that may be over now that these builds have ended: those that link one of them and nothing open that
 * rests on it. An evaluation's last build has nothing above it that is open, so none is missed. One that is not
 * building yet is among them: it may begin to build at this moment.
 */
export async function listEvaluationsToEnd(db: Kysely<Database>, buildIds: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select distinct e.id
    from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where l.build_id = any(${buildIds}) and e.status in (0, 1, 2, 3, 4, 8) and ${nothingOpenAbove}`.execute(db);
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

/** Evaluations that are building with nothing open: ends that were missed. */
export async function listOverdueEvaluations(db: Kysely<Database>): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select e.id from evaluation e
    where e.status in (3, 4) and ${isBuilding} and not ${hasOpenBuild}
    limit 1000`.execute(db);
  return result.rows.map(({ id }) => id);
}

/**
 * Locks the open builds of an evaluation and returns those that no other evaluation needs. Needed is also what is not
 * linked but lies below a build that another evaluation waits for. What the others need is read once the locks are
 * held: whoever links a build locks it.
 */
export async function lockBuildsOnlyNeededBy(trx: Transaction<Database>, evaluationId: string): Promise<string[]> {
  const open = await sql<{ id: string }>`
    select b.id from build b
    where b.status in (0, 1, 2, 8)
      and b.id in (select build_id from evaluation_build where evaluation_id = ${evaluationId} and outcome is null)
    order by b.id for no key update`.execute(trx);
  const ids = open.rows.map(({ id }) => id);
  if (ids.length === 0) return [];
  const needed = await sql<{ id: string }>`
    with recursive needed as (
      select l.build_id as id
      from evaluation e join evaluation_build l on l.evaluation_id = e.id join build b on b.id = l.build_id
      where e.status in (0, 1, 2, 3, 4, 8) and e.id <> ${evaluationId}
        and l.outcome is null and b.status in (0, 1, 2, 8)
        and e.organization_id = (select organization_id from evaluation where id = ${evaluationId})
      union
      select d.dependency_id from needed cross join lateral (
        select dependency_id from build_edge where build_id = needed.id and not satisfied offset 0) d
    )
    select id from needed where id = any(${ids})`.execute(trx);
  const keep = new Set(needed.rows.map(({ id }) => id));
  return ids.filter((id) => !keep.has(id));
}
