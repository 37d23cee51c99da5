import { endAttempts } from "../../db/attempts.ts";
import { findBuildLinkState, isWantedElsewhere, takeOutOfEvaluation } from "../../db/build-links.ts";
import { moveBuilds } from "../../db/build-transitions.ts";
import { endEvaluations } from "../../db/evaluation-end.ts";
import { lockToStopBuild } from "../../db/evaluation-stop.ts";
import { ACTIVE_EVALUATION, AttemptOutcome, BuildStatus, OPEN_BUILD } from "../../domain/states.ts";
import { DomainError } from "../../errors.ts";
import { concludeBuilds, failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";

/**
 * - `aborted`: the build has ended, and what waited for it has failed with it.
 * - `taken_out`: another evaluation waits for it, and it goes on. In this evaluation it counts as aborted, and what
 *   rests on it as failed.
 */
export type BuildAbort = "aborted" | "taken_out";

/**
 * Ends one build of an evaluation. What rests on it and is reported later fails with it. Throws `not_found`, or
 * `conflict` when it has ended.
 */
export async function abortBuild(deps: TransitionDeps, linkId: string): Promise<BuildAbort> {
  return await transition(deps, async (trx, wakeups) => {
    const link = await findBuildLinkState(trx, linkId);
    if (!link) throw new DomainError("not_found", "Build not found");
    const { evaluation_id: evaluationId, build_id: buildId } = link;
    const waiting = await lockToStopBuild(trx, { evaluationId, buildId });
    const now = await findBuildLinkState(trx, linkId);
    const isOpen = (OPEN_BUILD as readonly number[]).includes(now?.build_status ?? BuildStatus.Aborted);
    const isActive = (ACTIVE_EVALUATION as readonly number[]).includes(now?.evaluation_status ?? 0);
    if (!now || !isOpen || !isActive || now.outcome !== null) {
      throw new DomainError("conflict", "the build has ended already");
    }
    wakeups.evaluations([evaluationId]);
    wakeups.work(now.organization_id);
    const buildIds = [...waiting];
    if (await isWantedElsewhere(trx, evaluationId, buildIds)) {
      await takeOutOfEvaluation(trx, { evaluationId, aborted: buildId, buildIds });
      await endEvaluations(trx, [evaluationId]);
      return "taken_out";
    }
    const attempts = await trx
      .selectFrom("attempt")
      .select("id")
      .where("build_id", "=", buildId)
      .where("finished_at", "is", null)
      .execute();
    const attemptIds = attempts.map(({ id }) => id);
    await endAttempts(trx, attemptIds, { outcome: AttemptOutcome.Aborted, reason: null, message: "it was aborted" });
    await moveBuilds(trx, [buildId], { from: OPEN_BUILD, to: BuildStatus.Aborted });
    const failed = await failDependents(trx, [buildId]);
    await concludeBuilds(trx, wakeups, [buildId, ...failed]);
    wakeups.endedAttempts(attemptIds);
    return "aborted";
  });
}
