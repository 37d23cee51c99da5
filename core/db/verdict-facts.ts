import { type Kysely, type RawBuilder, sql } from "kysely";
import type { AttributeFact, BuildCount, CauseFact, ErrorFact, FailurePair } from "../domain/verdict-facts.ts";
import type { Database } from "./schema.ts";

/** The status that the link `l` shows of its build `b`. */
const shown = sql<number>`greatest(coalesce(l.outcome, b.status), 1)`;
/** Failed, given up or not tried because of such a one. */
const RED = sql`(4, 5, 6, 9)`;

export async function countBuildsByStatus(db: Kysely<Database>, evaluationId: string): Promise<BuildCount[]> {
  const { rows } = await sql<BuildCount>`
    select ${shown} as status, count(*)::int as count
    from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = ${evaluationId} group by 1`.execute(db);
  return rows;
}

/** What was asked for, with what became of it; by attribute. */
export async function listAttributeStates(
  db: Kysely<Database>,
  evaluationId: string,
  limit: number,
): Promise<AttributeFact[]> {
  const { rows } = await sql<AttributeFact>`
    select p.attribute, p.build_id, ${shown} as status
    from entry_point p
    join evaluation_build l on l.evaluation_id = p.evaluation_id and l.build_id = p.build_id
    join build b on b.id = p.build_id
    where p.evaluation_id = ${evaluationId}
    order by p.attribute limit ${limit}`.execute(db);
  return rows;
}

/** What did not evaluate, in the order in which it was reported, with how many there are in all. */
export async function listEvaluationErrors(
  db: Kysely<Database>,
  evaluationId: string,
  { limit, messageLengthMax }: { readonly limit: number; readonly messageLengthMax: number },
): Promise<ErrorFact[]> {
  const { rows } = await sql<ErrorFact>`
    select attribute, left(message, ${messageLengthMax}) as message, source
    from evaluation_message where evaluation_id = ${evaluationId} and level = 0
    order by created_at, id limit ${limit}`.execute(db);
  return rows;
}

/**
 * Of each red entry point's build, the builds below it that failed themselves. What is not among the evaluation's builds
 * counts as it is now. Null: to be sure of all of them, more than `stepsMax` steps would have to be walked.
 */
export async function listFailureCauses(
  db: Kysely<Database>,
  evaluationId: string,
  stepsMax: number,
): Promise<FailurePair[] | null> {
  // A recursive query whose only reader has a limit stops when the limit is reached.
  const { rows } = await sql<{ top_id: string | null; cause_id: string; walked: number }>`
    with recursive walk (top_id, id, status) as (
      select distinct b.id, b.id, ${shown}
      from entry_point p
      join evaluation_build l on l.evaluation_id = p.evaluation_id and l.build_id = p.build_id
      join build b on b.id = p.build_id
      where p.evaluation_id = ${evaluationId} and ${shown} in ${RED}
      union
      select walk.top_id, d.id, d.status
      from walk cross join lateral (
        select dependency_id from build_edge where build_id = walk.id offset 0) e
      cross join lateral (
        select b.id, ${shown} as status
        from build b left join evaluation_build l on l.evaluation_id = ${evaluationId} and l.build_id = b.id
        where b.id = e.dependency_id and ${shown} in ${RED} offset 0) d
      where walk.status = 6
    ),
    walked as materialized (select top_id, id, status from walk limit ${stepsMax + 1})
    select w.top_id, w.id as cause_id, c.walked
    from (select count(*)::int as walked from walked) c left join walked w on w.status <> 6`.execute(db);
  if ((rows[0]?.walked ?? 0) > stepsMax) return null;
  return rows.flatMap(({ top_id, cause_id }) => (top_id === null ? [] : [{ top_id, cause_id }]));
}

const causeColumns = sql`
  b.id, l.id as link_id, b.drv_path, b.name, b.system, ${shown} as status, a.id as attempt_id, a.message, a.finished_at,
  coalesce(a.assigned_at < e.created_at, false) as earlier`;

/** The attempt that the ended evaluation saw, else the newest of the build. */
const seenAttempt: RawBuilder<unknown> = sql`
  left join attempt a on a.id = case
    when l.attempt_id is not null or l.outcome is not null then l.attempt_id
    else (select n.id from attempt n where n.build_id = b.id order by n.assigned_at desc, n.id desc limit 1) end`;

/** Those of the evaluation's builds that failed themselves, by name. `aborted`: also those that were given up. */
export async function listOwnFailures(
  db: Kysely<Database>,
  evaluationId: string,
  { aborted, limit }: { readonly aborted: boolean; readonly limit: number },
): Promise<CauseFact[]> {
  const { rows } = await sql<CauseFact>`
    select ${causeColumns}
    from evaluation e join evaluation_build l on l.evaluation_id = e.id join build b on b.id = l.build_id ${seenAttempt}
    where e.id = ${evaluationId} and ${shown} in (4, 9, ${aborted ? 5 : 4})
    order by b.name, b.drv_path limit ${limit}`.execute(db);
  return rows;
}

/** These builds as the evaluation sees them, whether or not it links them. */
export async function listCauses(
  db: Kysely<Database>,
  evaluationId: string,
  buildIds: readonly string[],
): Promise<CauseFact[]> {
  if (buildIds.length === 0) return [];
  const { rows } = await sql<CauseFact>`
    select ${causeColumns}
    from evaluation e join build b on b.id = any(${buildIds}::uuid[])
    left join evaluation_build l on l.evaluation_id = e.id and l.build_id = b.id ${seenAttempt}
    where e.id = ${evaluationId}`.execute(db);
  return rows;
}

/** The attributes that were red in an evaluation: not built, or not evaluated. */
export async function listRedAttributes(
  db: Kysely<Database>,
  evaluationId: string,
  limit: number,
): Promise<string[][]> {
  const { rows } = await sql<{ attribute: string[] }>`
    select p.attribute
    from entry_point p
    join evaluation_build l on l.evaluation_id = p.evaluation_id and l.build_id = p.build_id
    join build b on b.id = p.build_id
    where p.evaluation_id = ${evaluationId} and ${shown} in ${RED}
    union
    select attribute from evaluation_message
    where evaluation_id = ${evaluationId} and level = 0 and attribute is not null
    limit ${limit}`.execute(db);
  return rows.map((row) => row.attribute);
}

/** Names and systems of the builds that failed themselves in an evaluation. */
export async function listFailedNames(
  db: Kysely<Database>,
  evaluationId: string,
  limit: number,
): Promise<{ readonly name: string; readonly system: string }[]> {
  const { rows } = await sql<{ name: string; system: string }>`
    select distinct b.name, b.system
    from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = ${evaluationId} and ${shown} in (4, 9) limit ${limit}`.execute(db);
  return rows;
}
