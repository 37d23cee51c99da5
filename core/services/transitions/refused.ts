import { endAttempts, lockOpenAttempt } from "../../db/attempts.ts";
import { lockBuilds, moveBuilds, waitingAbove } from "../../db/build-transitions.ts";
import { insertMessage } from "../../db/evaluation-graph.ts";
import { lockToStop } from "../../db/evaluation-stop.ts";
import { AttemptOutcome, BuildStatus, EvaluationStatus, MessageLevel } from "../../domain/states.ts";
import { derivedUuid } from "../../lib/ids.ts";
import { stopEvaluation } from "./abort.ts";
import { concludeBuilds, failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";

/**
 * What a worker reports of an attempt can never be recorded, however often it is sent. The attempt ends as failed with
 * these words, and its build or evaluation with it. False when the lease no longer holds.
 */
export async function endRefusedAttempt(deps: TransitionDeps, attemptId: string, reason: string): Promise<boolean> {
  const found = await deps.db
    .selectFrom("attempt")
    .select(["evaluation_id", "build_id"])
    .where("id", "=", attemptId)
    .where("finished_at", "is", null)
    .executeTakeFirst();
  if (!found) return false;
  const message = `the server could not record what the worker reported: ${reason}`;
  return found.build_id === null
    ? await failEvaluation(deps, { attemptId, evaluationId: found.evaluation_id as string, message })
    : await failBuild(deps, { attemptId, buildId: found.build_id, message });
}

async function failBuild(
  deps: TransitionDeps,
  { attemptId, buildId, message }: { readonly attemptId: string; readonly buildId: string; readonly message: string },
): Promise<boolean> {
  return await transition(deps, async (trx, wakeups) => {
    const attempt = await lockOpenAttempt(trx, attemptId);
    if (!attempt) return false;
    const above = (await waitingAbove([buildId]).execute(trx)).rows.map(({ build_id }) => build_id);
    await lockBuilds(trx, [buildId, ...above]);
    await endAttempts(trx, [attemptId], { outcome: AttemptOutcome.Failed, reason: null, message });
    const failed = await moveBuilds(trx, [buildId], { from: [BuildStatus.Building], to: BuildStatus.FailedPermanent });
    const failedAbove = failed.length > 0 ? await failDependents(trx, failed) : [];
    await concludeBuilds(trx, wakeups, [buildId, ...failedAbove]);
    wakeups.endedAttempts([attemptId]);
    wakeups.work(attempt.organization_id);
    return true;
  });
}

async function failEvaluation(
  deps: TransitionDeps,
  {
    attemptId,
    evaluationId,
    message,
  }: { readonly attemptId: string; readonly evaluationId: string; readonly message: string },
): Promise<boolean> {
  return await transition(deps, async (trx, wakeups) => {
    await lockToStop(trx, evaluationId);
    const attempt = await lockOpenAttempt(trx, attemptId);
    if (!attempt) return false;
    await endAttempts(trx, [attemptId], { outcome: AttemptOutcome.Failed, reason: null, message });
    await insertMessage(trx, {
      id: await derivedUuid(attemptId, "refused"),
      evaluation_id: evaluationId,
      level: MessageLevel.Error,
      message,
      source: "scheduler",
      attribute: null,
    });
    await trx.updateTable("evaluation").set({ failure: message }).where("id", "=", evaluationId).execute();
    await stopEvaluation(trx, wakeups, { evaluationId, status: EvaluationStatus.Failed, reason: message });
    wakeups.endedAttempts([attemptId]);
    wakeups.work(attempt.organization_id);
    return true;
  });
}
