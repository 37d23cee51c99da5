import { type Kysely, type RawBuilder, sql } from "kysely";
import type { FailureGraph } from "../domain/failure-graph.ts";
import type { AttributeFact, BuildCount, CauseFact, ErrorFact } from "../domain/verdict-facts.ts";
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
 * What is red in an evaluation, down to the builds that failed themselves. Where nothing among its builds says why one
 * of them was not tried, what lies below tells, as it is now. Null: there are more than `nodesMax` builds or `edgesMax`
 * edges.
 */
export async function readFailureGraph(
  db: Kysely<Database>,
  evaluationId: string,
  { nodesMax, edgesMax, causesMax }: { readonly [name in "nodesMax" | "edgesMax" | "causesMax"]: number },
): Promise<FailureGraph | null> {
  // A recursive query whose only reader has a limit stops when the limit is reached.
  const { rows } = await sql<GraphRow>`
    with recursive red as materialized (
      select b.id, ${shown} as status
      from evaluation_build l join build b on b.id = l.build_id
      where l.evaluation_id = ${evaluationId} and ${shown} in ${RED} limit ${nodesMax + 1}),
    inside as materialized (
      select s.id as source, e.dependency_id as target
      from red s cross join lateral (
        select dependency_id from build_edge where build_id = s.id offset 0) e
      where s.status = 6 and e.dependency_id in (select id from red) limit ${edgesMax + 1}),
    outside (source, target, status) as (
      select s.id, d.id, d.status
      from red s cross join lateral (
        select dependency_id from build_edge where build_id = s.id offset 0) e
      cross join lateral (
        select id, status from build where id = e.dependency_id and status in ${RED} offset 0) d
      where s.status = 6 and s.id not in (select source from inside)
      union
      select o.target, d.id, d.status
      from outside o cross join lateral (
        select dependency_id from build_edge where build_id = o.target offset 0) e
      cross join lateral (
        select id, status from build where id = e.dependency_id and status in ${RED} offset 0) d
      where o.status = 6
    ),
    found as materialized (select source, target, status from outside limit ${nodesMax}),
    walked as materialized (
      select id, status, (row_number() over ())::int - 1 as node
      from (select id, status from red union select target, status from found) w),
    tops as materialized (
      select w.id, w.node from walked w
      where w.id in (select build_id from entry_point where evaluation_id = ${evaluationId})),
    causes as materialized (select id, node from walked where status <> 6 order by node limit ${causesMax}),
    edges as materialized (
      select s.node as source, t.node as target
      from (select source, target from inside union all select source, target from found) e
      join walked s on s.id = e.source join walked t on t.id = e.target)
    select (select count(*)::int from walked) as size,
      array(select id::text from tops order by node) as top_ids, array(select node from tops order by node) as tops,
      array(select id::text from causes order by node) as cause_ids,
      array(select node from causes order by node) as causes,
      (select coalesce(array_agg(source), '{}') from edges) as sources,
      (select coalesce(array_agg(target), '{}') from edges) as targets`.execute(db);
  const [row] = rows;
  if (!row || row.size > nodesMax || row.sources.length > edgesMax) return null;
  return {
    size: row.size,
    tops: new Map(row.top_ids.map((id, index) => [id, row.tops[index] as number])),
    causes: row.cause_ids.map((id, index) => ({ id, node: row.causes[index] as number })),
    sources: row.sources,
    targets: row.targets,
  };
}

interface GraphRow {
  readonly size: number;
  readonly top_ids: readonly string[];
  readonly tops: readonly number[];
  readonly cause_ids: readonly string[];
  readonly causes: readonly number[];
  readonly sources: readonly number[];
  readonly targets: readonly number[];
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
