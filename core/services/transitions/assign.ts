import {
  type BuildClaim,
  type BuildInputs,
  type ClaimedBuild,
  type ClaimedEvaluation,
  claimBuilds,
  claimEvaluations,
  hasQueuedEvaluation,
  insertAttempts,
  loadBuildInputs,
} from "../../db/attempts.ts";
import { listEvaluationsOfBuilds } from "../../db/evaluation-end.ts";
import { AttemptKind } from "../../domain/states.ts";
import { uuidV7 } from "../../lib/ids.ts";
import { type TransitionDeps, transition } from "./deps.ts";

export interface AssignedBuild extends ClaimedBuild, BuildInputs {
  readonly attemptId: string;
}

export interface AssignedEvaluation extends ClaimedEvaluation {
  readonly attemptId: string;
}

/** Gives ready builds to a worker. What it returns is leased: if the worker never hears of it, the lease runs out. */
export async function assignBuilds(deps: TransitionDeps, claim: BuildClaim): Promise<AssignedBuild[]> {
  return await transition(deps, async (trx, wakeups) => {
    const builds = await claimBuilds(trx, claim);
    if (builds.length === 0) return [];
    const assigned = builds.map((build) => ({ ...build, attemptId: uuidV7(deps.clock.now(), deps.random) }));
    const attempts = assigned.map(({ id, attemptId, organization_id }) => ({
      id: attemptId,
      kind: AttemptKind.Build,
      organization_id,
      evaluation_id: null,
      build_id: id,
      worker_id: claim.workerId,
    }));
    await insertAttempts(trx, attempts, deps.leaseMs);
    const ids = builds.map(({ id }) => id);
    const inputs = await loadBuildInputs(trx, ids);
    wakeups.evaluations(await listEvaluationsOfBuilds(trx, ids));
    return assigned.map((build) => ({ ...build, ...(inputs.get(build.id) as BuildInputs) }));
  });
}

/** Gives queued evaluations to a worker. */
export async function assignEvaluations(
  deps: TransitionDeps,
  claim: { readonly workerId: string; readonly organizationIds: readonly string[]; readonly limit: number },
): Promise<AssignedEvaluation[]> {
  // Mostly there is none: one look then instead of a transaction.
  if (!(await hasQueuedEvaluation(deps.db, claim.organizationIds))) return [];
  return await transition(deps, async (trx, wakeups) => {
    const evaluations = await claimEvaluations(trx, claim);
    const assigned = evaluations.map((row) => ({ ...row, attemptId: uuidV7(deps.clock.now(), deps.random) }));
    const attempts = assigned.map(({ id, attemptId, organization_id }) => ({
      id: attemptId,
      kind: AttemptKind.Evaluation,
      organization_id,
      evaluation_id: id,
      build_id: null,
      worker_id: claim.workerId,
    }));
    await insertAttempts(trx, attempts, deps.leaseMs);
    wakeups.evaluations(evaluations.map(({ id }) => id));
    return assigned;
  });
}
