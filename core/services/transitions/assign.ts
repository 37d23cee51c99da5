import { type BuildClaim, type ClaimedBuild, claimBuilds } from "../../db/build-claims.ts";
import { type ClaimedEvaluation, claimEvaluations, type EvaluationClaim } from "../../db/evaluation-claims.ts";
import { withRetries } from "../../db/transaction.ts";
import { uuidV7 } from "../../lib/ids.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { Wakeups } from "./wakeups.ts";

export type AssignedBuild = ClaimedBuild;
export type AssignedEvaluation = ClaimedEvaluation;

/**
 * Gives builds to workers, all at once. What it returns is leased: if a worker never hears of it, the lease runs out.
 * What somebody else has taken since it was chosen is left out.
 */
export async function assignBuilds(
  deps: TransitionDeps,
  choices: readonly Omit<BuildClaim, "attemptId">[],
): Promise<readonly AssignedBuild[]> {
  if (choices.length === 0) return [];
  const { builds, evaluationIds } = await withRetries(() => {
    const claims = choices.map((choice) => ({ ...choice, attemptId: uuidV7(deps.clock.now(), deps.random) }));
    return claimBuilds(deps.db, claims, deps.leaseMs);
  }, deps);
  const wakeups = new Wakeups();
  wakeups.evaluations(evaluationIds);
  wakeups.send(deps.notifier);
  return builds;
}

/** Gives queued evaluations to workers. */
export async function assignEvaluations(
  deps: TransitionDeps,
  choices: readonly Omit<EvaluationClaim, "attemptId">[],
): Promise<AssignedEvaluation[]> {
  if (choices.length === 0) return [];
  return await transition(deps, async (trx, wakeups) => {
    const claims = choices.map((choice) => ({ ...choice, attemptId: uuidV7(deps.clock.now(), deps.random) }));
    const assigned = await claimEvaluations(trx, claims, deps.leaseMs);
    wakeups.evaluations(assigned.map(({ id }) => id));
    return assigned;
  });
}
