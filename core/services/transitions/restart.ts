import { sql, type Transaction } from "kysely";
import { findBuildLinkState } from "../../db/build-links.ts";
import { moveBuilds } from "../../db/build-transitions.ts";
import { endEvaluations } from "../../db/evaluation-end.ts";
import { linkBuilds } from "../../db/evaluation-graph.ts";
import { settleEdgesAbove } from "../../db/graph.ts";
import { listCompetingEvaluations, lockProjectToEvaluate } from "../../db/projects-evaluations.ts";
import type { Database } from "../../db/schema.ts";
import { ACTIVE_EVALUATION, BuildStatus, type EvaluationStatus, FAILED_BUILD } from "../../domain/states.ts";
import { DomainError } from "../../errors.ts";
import { uuidV7 } from "../../lib/ids.ts";
import { failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { reopenWantedWithin } from "./loss.ts";
import { RECOVERY_SOURCE } from "./recovery.ts";
import type { Wakeups } from "./wakeups.ts";

/**
 * Opens again what failed in an ended evaluation, deterministic failures too, under a new evaluation of the same commit
 * that links the same builds. Returns the new evaluation's id. Throws `not_found`, `conflict` while the evaluation has
 * not ended, or `bad_request` when nothing failed that could succeed.
 */
export async function restartFailed(
  deps: TransitionDeps,
  evaluationId: string,
  startedBy: string | null,
): Promise<string> {
  return await transition(deps, (trx, wakeups) => restartEnded(trx, wakeups, deps, { evaluationId, startedBy }));
}

/**
 * Opens one failed build again, deterministic failure or not, with what failed below it and what failed because of it.
 * Until its evaluation has ended, within that; afterwards under a new evaluation as `restartFailed` makes it. Returns
 * the id of the evaluation that waits for it. Throws `not_found`, `conflict`, or `bad_request` when it has not failed.
 */
export async function restartBuild(deps: TransitionDeps, linkId: string, startedBy: string | null): Promise<string> {
  return await transition(deps, async (trx, wakeups) => {
    const link = await findBuildLinkState(trx, linkId);
    if (!link) throw new DomainError("not_found", "Build not found");
    const { evaluation_id: evaluationId, build_id: buildId, organization_id: organizationId } = link;
    const isActive = (ACTIVE_EVALUATION as readonly number[]).includes(link.evaluation_status);
    if (!isActive) return await restartEnded(trx, wakeups, deps, { evaluationId, startedBy, buildId });
    if (link.outcome !== null) {
      throw new DomainError("conflict", "the build was taken out of the evaluation: restart it when that has ended");
    }
    const failed = await lockFailed(trx, evaluationId, buildId);
    await lockActive(trx, evaluationId);
    await reopen(trx, deps, wakeups, failed);
    wakeups.evaluations([evaluationId]);
    wakeups.work(organizationId);
    return evaluationId;
  });
}

interface Restart {
  readonly evaluationId: string;
  readonly startedBy: string | null;
  /** Of all that failed only this, what failed below it and what failed because of it. */
  readonly buildId?: string;
}

async function restartEnded(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  deps: TransitionDeps,
  { evaluationId, startedBy, buildId }: Restart,
): Promise<string> {
  const organizationId = await lockEnded(trx, evaluationId);
  const newId = uuidV7(deps.clock.now(), deps.random);
  // Whoever starts something old again does not want hosts to go back to it.
  await sql`
    insert into evaluation (id, organization_id, project_id, repository, commit_hash, commit_message, commit_author,
      wildcard, input_overrides, locked_inputs, status, trusted, priority, previous_id, started_by, branch, deploys,
      building_started_at)
    select ${newId}, organization_id, project_id, repository, commit_hash, commit_message, commit_author, wildcard,
      input_overrides, locked_inputs, 3, trusted, priority, id, ${startedBy}, branch, deploys and not exists (
        select from evaluation n
        where n.project_id = e.project_id and n.branch = e.branch and n.deploys and n.ordinal > e.ordinal
      ), gradient_now()
    from evaluation e where id = ${evaluationId}`.execute(trx);
  const failed = await lockFailed(trx, evaluationId, buildId);
  await copyReport(trx, deps, evaluationId, newId);
  await linkAlso(
    trx,
    deps,
    newId,
    failed.filter(canRun).map(({ id }) => id),
  );
  await reopen(trx, deps, wakeups, failed);
  await endEvaluations(trx, [newId]);
  wakeups.work(organizationId);
  wakeups.evaluations([newId]);
  return newId;
}

interface FailedBuild {
  readonly id: string;
  /** Where an output has no path and gets none by resolution, the derivation is of a kind that no worker builds. */
  readonly buildable: boolean;
  /** Of what it takes to build it nothing was recorded. */
  readonly pruned: boolean;
}

function canRun({ buildable, pruned }: FailedBuild): boolean {
  return buildable && !pruned;
}

/** Throws `bad_request` when none of them could succeed. They are locked. */
async function reopen(
  trx: Transaction<Database>,
  deps: TransitionDeps,
  wakeups: Wakeups,
  failed: readonly FailedBuild[],
): Promise<void> {
  const again = failed.filter(canRun).map(({ id }) => id);
  if (again.length === 0) {
    throw new DomainError(
      "bad_request",
      "nothing of it has failed, or is failed any more: there is nothing to restart",
    );
  }
  await sql`
    update build set status = case when pending_dependencies = 0 then 1 else 0 end, deterministic_failure = false,
      transient_failures = 0, retry_at = null, ready_at = gradient_now(), updated_at = gradient_now()
    where id = any(${again})`.execute(trx);
  await settleEdgesAbove(trx, again);
  // Given up for recoveries in vain. They have lost their outputs as before that, and recoveries begin anew.
  await moveBuilds(
    trx,
    failed.filter(({ pruned }) => pruned).map(({ id }) => id),
    { from: FAILED_BUILD, to: BuildStatus.Substituted },
  );
  const below = await sql<{ id: string; failed: boolean }>`
    select distinct d.id, d.status in (4, 5, 6, 9) as failed
    from build_edge e join build d on d.id = e.dependency_id
    where e.build_id = any(${again}) and not e.satisfied and d.status not in (0, 1, 2, 8)`.execute(trx);
  const still = below.rows.filter((row) => row.failed).map(({ id }) => id);
  if (still.length > 0) await failDependents(trx, still);
  // What was built once and has vanished since: nobody wanted it while these had failed.
  const lost = below.rows.filter((row) => !row.failed).map(({ id }) => id);
  if (lost.length > 0) await reopenWantedWithin(trx, deps, wakeups, lost);
}

/** An abort of the evaluation, or its end, comes before this or after it. */
async function lockActive(trx: Transaction<Database>, evaluationId: string): Promise<void> {
  const { rows } = await sql`
    select id from evaluation where id = ${evaluationId} and status in (0, 1, 2, 3, 4, 8) for no key update`.execute(
    trx,
  );
  if (rows.length === 0) throw new DomainError("conflict", "the evaluation has ended meanwhile: try again");
}

async function lockEnded(trx: Transaction<Database>, evaluationId: string): Promise<string> {
  const found = trx
    .selectFrom("evaluation")
    .select(["organization_id", "project_id", "status"])
    .where("id", "=", evaluationId);
  const unlocked = await found.executeTakeFirst();
  // Evaluations of one project begin one after the other. Who removes the project locks it before them, too.
  if (unlocked) await lockProjectToEvaluate(trx, unlocked.project_id);
  const evaluation = await found.forShare().executeTakeFirst();
  if (!evaluation) throw new DomainError("not_found", "no such evaluation");
  const [active] = await listCompetingEvaluations(trx, evaluation.project_id);
  if (active && active.id !== evaluationId) {
    throw new DomainError("conflict", `the project is being evaluated (${active.id}): abort that, or wait for its end`);
  }
  if (ACTIVE_EVALUATION.includes(evaluation.status as EvaluationStatus)) {
    throw new DomainError("conflict", "the evaluation has not ended yet: abort it, or wait for its end");
  }
  await refuseForeign(trx, evaluationId, evaluation.organization_id);
  return evaluation.organization_id;
}

/** What was built before the project came to this organization is the business of the one that built it. */
async function refuseForeign(trx: Transaction<Database>, evaluationId: string, organizationId: string): Promise<void> {
  const { rows } = await sql`
    select from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = ${evaluationId} and b.organization_id <> ${organizationId} limit 1`.execute(trx);
  if (rows.length === 0) return;
  throw new DomainError(
    "conflict",
    "the evaluation is from before the project came to this organization: start a new one",
  );
}

/**
 * What failed in the evaluation, and what failed below that and was not reported by it. With `buildId` only that build,
 * what failed below it, and what failed in the evaluation because something below had. Locked, in id order.
 */
async function lockFailed(
  trx: Transaction<Database>,
  evaluationId: string,
  buildId?: string,
): Promise<readonly FailedBuild[]> {
  // Whoever links a build locks it, so that an abort of the last evaluation that needs it sees the link.
  await sql`
    select id from build
    where status not in (3, 7) and id in (select build_id from evaluation_build where evaluation_id = ${evaluationId})
    order by id for no key update`.execute(trx);
  const own = buildId === undefined ? sql`true` : sql`l.build_id = ${buildId}`;
  const above = buildId === undefined ? sql`` : sql`union (${failedAbove(evaluationId, buildId)})`;
  const result = await sql<FailedBuild>`
    select id, not exists (
      select from build_output o where o.build_id = build.id and o.store_path is null and build.resolution = 0
    ) as buildable,
      pruned_at is not null as pruned
    from build
    where status in (4, 5, 6, 9) and id in (
      with recursive failed as (
        select l.build_id as id from evaluation_build l join build b on b.id = l.build_id
        where l.evaluation_id = ${evaluationId} and b.status in (4, 5, 6, 9) and ${own}
        union
        select b.id
        from failed cross join lateral (
          select dependency_id from build_edge where build_id = failed.id and not satisfied offset 0) e
        cross join lateral (
          select id from build where id = e.dependency_id and status in (4, 5, 6, 9) offset 0) b
      )
      select id from failed ${above})
    order by id for no key update`.execute(trx);
  return result.rows;
}

const failedAbove = (evaluationId: string, buildId: string) => sql`
  with recursive above as (
    select ${buildId}::uuid as id
    union
    select b.id
    from above cross join lateral (
      select build_id from build_edge where dependency_id = above.id and not satisfied offset 0) e
    cross join lateral (select id from build where id = e.build_id and status = 6 offset 0) b
    join evaluation_build l on l.build_id = b.id and l.evaluation_id = ${evaluationId}
  )
  select id from above`;

/**
 * The new evaluation starts where the old one stood after it was evaluated: its builds, attributes and messages. What
 * could not be recovered is tried anew, and said anew when that is in vain.
 */
async function copyReport(trx: Transaction<Database>, deps: TransitionDeps, from: string, to: string): Promise<void> {
  const links = await trx.selectFrom("evaluation_build").select("build_id").where("evaluation_id", "=", from).execute();
  await linkAlso(
    trx,
    deps,
    to,
    links.map((link) => link.build_id),
  );
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
  const messages = await trx
    .selectFrom("evaluation_message")
    .select("id")
    .where("evaluation_id", "=", from)
    .where("source", "<>", RECOVERY_SOURCE)
    .execute();
  const copies = messages.map(({ id }) => ({ id: uuidV7(deps.clock.now(), deps.random), from: id }));
  await sql`
    insert into evaluation_message (id, evaluation_id, level, message, source, attribute, created_at)
    select c.id, ${to}, m.level, m.message, m.source, m.attribute, m.created_at
    from jsonb_to_recordset(${JSON.stringify(copies)}::jsonb) as c(id uuid, "from" uuid)
    join evaluation_message m on m.id = c."from"`.execute(trx);
}

async function linkAlso(
  trx: Transaction<Database>,
  deps: TransitionDeps,
  evaluationId: string,
  buildIds: readonly string[],
): Promise<void> {
  await linkBuilds(
    trx,
    evaluationId,
    buildIds.map((build_id) => ({ id: uuidV7(deps.clock.now(), deps.random), build_id })),
  );
}
