import { sql, type Transaction } from "kysely";
import { endAttempts } from "../../db/attempts.ts";
import { moveBuilds } from "../../db/build-transitions.ts";
import { freezeLinks, lockBuildsOnlyNeededBy } from "../../db/evaluation-end.ts";
import { lockToStop } from "../../db/evaluation-stop.ts";
import type { Database } from "../../db/schema.ts";
import { databaseNow } from "../../db/time.ts";
import { openVerdicts } from "../../db/verdicts.ts";
import { ACTIVE_EVALUATION, AttemptOutcome, BuildStatus, EvaluationStatus, OPEN_BUILD } from "../../domain/states.ts";
import { DomainError } from "../../errors.ts";
import { failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import type { Wakeups } from "./wakeups.ts";

/**
 * Ends an evaluation at once, with those of its builds that no other evaluation needs. Workers that run them are told
 * to stop. Throws `not_found`, or `conflict` when it has ended already.
 */
export async function abortEvaluation(deps: TransitionDeps, evaluationId: string): Promise<void> {
  await transition(deps, async (trx, wakeups) => {
    await requireActive(trx, evaluationId);
    await lockToStop(trx, evaluationId);
    const organizationId = await requireActive(trx, evaluationId);
    await stopEvaluation(trx, wakeups, {
      evaluationId,
      status: EvaluationStatus.Aborted,
      reason: "the evaluation was aborted",
    });
    wakeups.work(organizationId);
  });
}

async function requireActive(trx: Transaction<Database>, evaluationId: string): Promise<string> {
  const evaluation = await trx
    .selectFrom("evaluation")
    .select(["status", "organization_id"])
    .where("id", "=", evaluationId)
    .executeTakeFirst();
  if (!evaluation) throw new DomainError("not_found", "no such evaluation");
  if (!(ACTIVE_EVALUATION as readonly number[]).includes(evaluation.status)) {
    throw new DomainError("conflict", "the evaluation has ended already");
  }
  return evaluation.organization_id;
}

export interface EvaluationStop {
  readonly evaluationId: string;
  readonly status: EvaluationStatus;
  readonly reason: string;
  /** What becomes of its open builds that no other evaluation needs. By default they are aborted. */
  readonly builds?: "abort" | "keep";
}

/**
 * Ends an active evaluation as aborted or failed: its own lease, and the open builds that only it needs. Call
 * `lockToStop` first: without it, whoever ends one of its builds at that moment may wait for this in a ring. Its first
 * statement ends the evaluation, so that nothing of it is dispatched any more. Builds that are kept go on for nobody,
 * and fill the cache.
 */
export async function stopEvaluation(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  { evaluationId, status, reason, builds: fate = "abort" }: EvaluationStop,
): Promise<void> {
  await trx
    .updateTable("evaluation")
    .set({ status, waiting_reason: null, updated_at: databaseNow, finished_at: databaseNow })
    .where("id", "=", evaluationId)
    .where("status", "in", [...ACTIVE_EVALUATION])
    .execute();
  const builds = fate === "abort" ? await lockBuildsOnlyNeededBy(trx, evaluationId) : [];
  const attempts = await trx
    .selectFrom("attempt")
    .select("id")
    .where("finished_at", "is", null)
    .where((eb) =>
      eb.or([eb("evaluation_id", "=", evaluationId), eb("build_id", "=", sql<string>`any(${builds}::uuid[])`)]),
    )
    .execute();
  const attemptIds = attempts.map(({ id }) => id);
  await endAttempts(trx, attemptIds, { outcome: AttemptOutcome.Aborted, reason: null, message: reason });
  const aborted = await moveBuilds(trx, builds, { from: OPEN_BUILD, to: BuildStatus.Aborted });
  // What an earlier stop kept may wait for these, and no evaluation waits for that.
  if (aborted.length > 0) await failDependents(trx, aborted);
  await freezeLinks(trx, evaluationId);
  await openVerdicts(trx, [evaluationId]);
  wakeups.endedAttempts(attemptIds);
  wakeups.evaluations([evaluationId]);
}
