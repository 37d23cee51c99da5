import { sql } from "kysely";
import { endEvaluations } from "../../db/evaluation-end.ts";
import { settleEdgesAbove } from "../../db/graph.ts";
import { DomainError } from "../../errors.ts";
import { uuidV7 } from "../../lib/ids.ts";
import { type TransitionDeps, transition } from "./deps.ts";

/**
 * Opens again what failed in an evaluation, deterministic failures too, under a new evaluation of the same commit that
 * links the same builds. Returns the new evaluation's id. Throws `not_found`, or `bad_request` when nothing failed.
 */
export async function restartFailed(
  deps: TransitionDeps,
  evaluationId: string,
  startedBy: string | null,
): Promise<string> {
  return await transition(deps, async (trx, wakeups) => {
    const newId = uuidV7(deps.clock.now(), deps.random);
    const created = await sql<{ organization_id: string }>`
      insert into evaluation (id, organization_id, project_id, repository, commit_hash, commit_message, commit_author,
        wildcard, status, trusted, previous_id, started_by, building_started_at)
      select ${newId}, organization_id, project_id, repository, commit_hash, commit_message, commit_author, wildcard, 3,
        trusted, id, ${startedBy}, gradient_now()
      from evaluation where id = ${evaluationId}
      returning organization_id`.execute(trx);
    const organizationId = created.rows[0]?.organization_id;
    if (!organizationId) throw new DomainError("not_found", "no such evaluation");

    const failed = await sql<{ id: string }>`
      select id from build
      where status in (4, 5, 6, 9) and id in (select build_id from evaluation_build where evaluation_id = ${evaluationId})
      order by id for update`.execute(trx);
    const ids = failed.rows.map(({ id }) => id);
    if (ids.length === 0)
      throw new DomainError("bad_request", "nothing failed in that evaluation: there is nothing to restart");

    await copyLinks(trx, deps, evaluationId, newId);
    await sql`
      update build set status = case when pending_dependencies = 0 then 1 else 0 end, deterministic_failure = false,
        transient_failures = 0, retry_at = null, ready_at = gradient_now(), updated_at = gradient_now()
      where id = any(${ids})`.execute(trx);
    await settleEdgesAbove(trx, ids);
    await endEvaluations(trx, [newId]);
    wakeups.work(organizationId);
    wakeups.evaluations([newId]);
    return newId;
  });
}

async function copyLinks(
  trx: Parameters<typeof endEvaluations>[0],
  deps: TransitionDeps,
  from: string,
  to: string,
): Promise<void> {
  const links = await trx.selectFrom("evaluation_build").select("build_id").where("evaluation_id", "=", from).execute();
  const ids = links.map(() => uuidV7(deps.clock.now(), deps.random));
  await sql`
    insert into evaluation_build (id, evaluation_id, build_id)
    select l.id, ${to}, l.build_id
    from unnest(${ids}::uuid[], ${links.map((l) => l.build_id)}::uuid[]) as l(id, build_id)`.execute(trx);
  const points = await trx
    .selectFrom("entry_point")
    .select(["attribute", "build_id"])
    .where("evaluation_id", "=", from)
    .execute();
  const rows = points.map((point) => ({ ...point, id: uuidV7(deps.clock.now(), deps.random) }));
  await sql`
    insert into entry_point (id, evaluation_id, attribute, build_id)
    select r.id, ${to}, r.attribute, r.build_id
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(id uuid, attribute text[], build_id uuid)`.execute(
    trx,
  );
}
