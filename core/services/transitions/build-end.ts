import type { Transaction } from "kysely";
import { endAttempts, lockOpenAttempt } from "../../db/attempts.ts";
import {
  type LockedBuild,
  lockEndingBuild,
  lockWaitingDependents,
  markDeterministicFailure,
  moveBuilds,
  setEveryOutputAvailable,
} from "../../db/build-transitions.ts";
import { endEvaluations, listEvaluationsOfBuilds, listEvaluationsToEnd } from "../../db/evaluation-end.ts";
import { listBuildOutputs, settleEdgesAbove } from "../../db/graph.ts";
import type { Database } from "../../db/schema.ts";
import { attemptReason, decideFailure } from "../../domain/failure.ts";
import { AttemptOutcome, BuildStatus } from "../../domain/states.ts";
import { parseStorePathBaseName, type StorePath } from "../../nix/store-path.ts";
import type { BuildResult, FailureClass } from "../../protocol/worker-messages.ts";
import { recordBuildResults } from "../build-results.ts";
import { availablePaths } from "../paths-availability.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import type { Wakeups } from "./wakeups.ts";

/**
 * Records how a build's attempt ended. False when the attempt's lease no longer holds: the result is refused and
 * changes nothing, and the worker need not send it again.
 */
export async function endBuild(deps: TransitionDeps, attemptId: string, result: BuildResult): Promise<boolean> {
  return await transition(deps, async (trx, wakeups) => {
    const attempt = await lockOpenAttempt(trx, attemptId);
    if (!attempt?.build_id) return false;
    const failed = result.failure !== null && result.failure.class !== "aborted";
    const build = await lockEndingBuild(trx, attempt.build_id, { failed });
    if (!build) return false;

    let failedAbove: readonly string[] = [];
    let succeeded = false;
    if (result.failure) {
      failedAbove = await fail(trx, deps, {
        attemptId,
        build,
        failure: result.failure.class,
        message: result.failure.message,
        ranForMs: result.build_ms,
      });
    } else {
      const missing = await missingOutputs(trx, build);
      if (missing.length > 0) {
        const message = `the worker reported success, but these outputs were not uploaded: ${missing.join(", ")}`;
        failedAbove = await fail(trx, deps, {
          attemptId,
          build,
          failure: "transient",
          message,
          ranForMs: result.build_ms,
        });
      } else {
        await succeed(trx, build, attemptId, result);
        succeeded = true;
      }
    }
    await recordBuildResults(trx, [{ attemptId, buildId: build.id, succeeded, result }]);
    await concludeBuilds(trx, wakeups, [build.id, ...failedAbove]);
    wakeups.work(build.organization_id);
    return true;
  });
}

async function succeed(
  trx: Transaction<Database>,
  build: LockedBuild,
  attemptId: string,
  { status, build_ms: ranForMs }: BuildResult,
): Promise<void> {
  const alreadyValid = status === "already_valid";
  await moveBuilds(trx, [build.id], {
    from: [BuildStatus.Building],
    to: alreadyValid ? BuildStatus.Substituted : BuildStatus.Completed,
  });
  await setEveryOutputAvailable(trx, build.id);
  const outcome = alreadyValid ? AttemptOutcome.Substituted : AttemptOutcome.Built;
  await endAttempts(trx, [attemptId], { outcome, reason: null, message: null, ranForMs });
  await settleEdgesAbove(trx, [build.id]);
}

interface Failure {
  readonly attemptId: string;
  readonly build: LockedBuild;
  readonly failure: FailureClass;
  readonly message: string;
  readonly ranForMs: number;
}

/** Returns the dependents that failed with it. */
async function fail(
  trx: Transaction<Database>,
  deps: TransitionDeps,
  { attemptId, build, failure, message, ranForMs }: Failure,
): Promise<readonly string[]> {
  const decision = decideFailure(failure, build.transient_failures, deps.retry);
  if (decision === "give_back") {
    await endAttempts(trx, [attemptId], { outcome: AttemptOutcome.Aborted, reason: null, message });
    await requeueBuilds(trx, [build]);
    return [];
  }
  const retry = decision.status === BuildStatus.FailedTransient ? { retryInMs: decision.retryInMs } : {};
  await moveBuilds(trx, [build.id], { from: [BuildStatus.Building], to: decision.status, ...retry });
  const end = { outcome: AttemptOutcome.Failed, reason: attemptReason(failure), message, ranForMs };
  await endAttempts(trx, [attemptId], end);
  if (decision.status === BuildStatus.FailedTransient) return [];
  if (decision.status === BuildStatus.FailedPermanent && decision.deterministic) {
    await markDeterministicFailure(trx, build.id);
  }
  return await failDependents(trx, [build.id]);
}

/**
 * Everything that waits for a failed build fails with it. The failed builds are locked by this transaction. Returns
 * what failed.
 */
export async function failDependents(trx: Transaction<Database>, buildIds: readonly string[]): Promise<string[]> {
  const failed: string[] = [];
  let below = buildIds;
  do {
    // Once more above what just failed: an evaluation may have put something there before the locks were held.
    const waiting = await lockWaitingDependents(trx, below);
    below = await moveBuilds(trx, waiting, {
      from: [BuildStatus.Created, BuildStatus.Queued, BuildStatus.FailedTransient],
      to: BuildStatus.DependencyFailed,
    });
    failed.push(...below);
  } while (below.length > 0);
  return failed;
}

/** What a worker gave back or lost is offered again. The builds are locked by this transaction. */
export async function requeueBuilds(trx: Transaction<Database>, builds: readonly LockedBuild[]): Promise<void> {
  const ready = builds.filter((build) => build.pending_dependencies === 0).map(({ id }) => id);
  const waiting = builds.filter((build) => build.pending_dependencies > 0).map(({ id }) => id);
  await moveBuilds(trx, ready, { from: [BuildStatus.Building], to: BuildStatus.Queued });
  await moveBuilds(trx, waiting, { from: [BuildStatus.Building], to: BuildStatus.Created });
}

/** Ends the evaluations for which these builds were the last ones, and wakes who watches. */
export async function concludeBuilds(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  buildIds: readonly string[],
): Promise<void> {
  wakeups.evaluations(await listEvaluationsOfBuilds(trx, buildIds));
  await endEvaluations(trx, await listEvaluationsToEnd(trx, buildIds));
}

async function missingOutputs(trx: Transaction<Database>, build: LockedBuild): Promise<string[]> {
  const outputs = await listBuildOutputs(trx, [build.id]);
  const paths = outputs.flatMap(({ store_path }) => parseStorePathBaseName(store_path ?? "") ?? []);
  const present = await availablePaths(trx, build.organization_id, paths);
  return outputs
    .filter(({ store_path }) => !present.has(parseStorePathBaseName(store_path ?? "") as StorePath))
    .map(({ name, store_path }) => store_path ?? `output ${name}`);
}
