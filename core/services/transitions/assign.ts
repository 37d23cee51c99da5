import {
  type BuildClaim,
  type BuildInputs,
  type ClaimedBuild,
  claimBuilds,
  loadBuildInputs,
  resumeEvaluationsOf,
} from "../../db/build-claims.ts";
import { type ClaimedEvaluation, claimEvaluations, type EvaluationClaim } from "../../db/evaluation-claims.ts";
import { uuidV7 } from "../../lib/ids.ts";
import { type TransitionDeps, transition } from "./deps.ts";

export interface AssignedBuild extends ClaimedBuild, BuildInputs {}
export type AssignedEvaluation = ClaimedEvaluation;

/**
 * Gives builds to workers, all in one transaction. What it returns is leased: if a worker never hears of it, the lease
 * runs out. What somebody else has taken since it was chosen is left out.
 */
export async function assignBuilds(
  deps: TransitionDeps,
  choices: readonly Omit<BuildClaim, "attemptId">[],
): Promise<AssignedBuild[]> {
  if (choices.length === 0) return [];
  return await transition(deps, async (trx, wakeups) => {
    const claims = choices.map((choice) => ({ ...choice, attemptId: uuidV7(deps.clock.now(), deps.random) }));
    const builds = await claimBuilds(trx, claims, deps.leaseMs);
    if (builds.length === 0) return [];
    const ids = builds.map(({ id }) => id);
    const inputs = await loadBuildInputs(trx, ids);
    wakeups.evaluations(await resumeEvaluationsOf(trx, ids));
    return builds.map((build) => ({ ...build, ...(inputs.get(build.id) as BuildInputs) }));
  });
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
