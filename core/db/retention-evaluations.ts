import { type Kysely, sql, type Transaction } from "kysely";
import { latestSuccesses } from "./latest-successes.ts";
import type { Database } from "./schema.ts";

/**
 * Ended evaluations that are not kept: those beyond the newest ones that their project keeps (at most `keepMax`, unless
 * that is 0), and recoveries of evaluations that are gone. One that a verdict is about to compare with stays till then.
 */
const oldEvaluations = (keepMax: number) => sql`
  select n.id, n.project_id
  from (
    select e.id, e.project_id, row_number() over (partition by e.project_id order by e.ordinal desc) as place
    from evaluation e where e.status in (5, 6, 7) and e.kind <> 2
  ) n join project p on p.id = n.project_id
  where n.place > case when ${keepMax > 0} then least(p.keep_evaluations, ${keepMax}) else p.keep_evaluations end
    and not exists (select from evaluation_verdict v where v.base_id = n.id and v.record is null)
  union all
  select e.id, e.project_id from evaluation e where e.kind = 2 and e.recovers_id is null and e.status in (5, 6, 7)`;

export interface OldEvaluation {
  readonly id: string;
  readonly project_id: string;
}

/** By project, and the oldest first, behind one that was listed before. */
export async function listOldEvaluations(
  db: Kysely<Database>,
  keepMax: number,
  { after, limit }: { readonly after: OldEvaluation | null; readonly limit: number },
): Promise<OldEvaluation[]> {
  const behind = after === null ? sql`true` : sql`(o.project_id, o.id) > (${after.project_id}, ${after.id})`;
  const { rows } = await sql<OldEvaluation>`
    select o.id, o.project_id from (${oldEvaluations(keepMax)}) o
    where ${behind} order by o.project_id, o.id limit ${limit}`.execute(db);
  return rows;
}

export interface LastingBuild {
  readonly evaluation_id: string;
  readonly build_id: string;
}

/**
 * What stays of the project's old evaluations: entry points that were not built again, and are still asked for; and of
 * the branch that hosts follow the same again, whatever other branches have.
 */
export async function listLastingBuilds(
  db: Kysely<Database>,
  projectId: string,
  deployBranch: string | null,
): Promise<LastingBuild[]> {
  const ofHosts =
    deployBranch === null
      ? sql``
      : sql`
    union
    select s.evaluation_id, s.build_id from (${latestSuccesses(sql`= ${projectId}`, { deployBranch })}) s
    where s.lasting`;
  const { rows } = await sql<LastingBuild>`
    select s.evaluation_id, s.build_id from (${latestSuccesses(sql`= ${projectId}`)}) s where s.lasting
    ${ofHosts}`.execute(db);
  return rows;
}

/** Locks an evaluation that has ended. False when it is gone or goes on: it may have been restarted. */
export async function lockEndedEvaluation(trx: Transaction<Database>, id: string): Promise<boolean> {
  const { rows } = await sql`
    select id from evaluation where id = ${id} and status in (5, 6, 7) for update`.execute(trx);
  return rows.length > 0;
}

/** Takes links, with their entry points, out of an evaluation, but for those of `lasting`. Answers how many. */
export async function deleteLinks(
  trx: Transaction<Database>,
  evaluationId: string,
  { lasting, limit }: { readonly lasting: readonly string[]; readonly limit: number },
): Promise<number> {
  await sql`
    delete from entry_point where evaluation_id = ${evaluationId} and build_id <> all(${lasting}::uuid[])`.execute(trx);
  const { numAffectedRows } = await sql`
    delete from evaluation_build where id in (
      select id from evaluation_build
      where evaluation_id = ${evaluationId} and build_id <> all(${lasting}::uuid[]) limit ${limit})`.execute(trx);
  return Number(numAffectedRows ?? 0n);
}

export async function deleteEvaluation(trx: Transaction<Database>, id: string): Promise<void> {
  await trx.deleteFrom("evaluation").where("id", "=", id).execute();
}
