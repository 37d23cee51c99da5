import type { Transaction } from "kysely";
import {
  type BuildEnd,
  listEvaluationsAbove,
  lockEndingBuilds,
  lockOpenBuildAttempts,
  type OpenBuildAttempt,
  recordBuildEnds,
} from "../../db/build-ends.ts";
import { type LockedBuild, lockWaitingDependents, moveBuilds } from "../../db/build-transitions.ts";
import { listAbsentOutputs } from "../../db/cache-paths.ts";
import { endEvaluations } from "../../db/evaluation-end.ts";
import { settleEdgesAbove } from "../../db/graph.ts";
import type { Database } from "../../db/schema.ts";
import { attemptReason, decideFailure, type RetryPolicy } from "../../domain/failure.ts";
import { AttemptOutcome, BuildStatus } from "../../domain/states.ts";
import type { BuildResult, FailureClass } from "../../protocol/worker-messages.ts";
import { recordBuildResults } from "../build-results.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import type { Wakeups } from "./wakeups.ts";

export interface ReportedResult {
  readonly attemptId: string;
  readonly result: BuildResult;
}

/**
 * Records how a build's attempt ended. False when the attempt's lease no longer holds: the result is refused and
 * changes nothing, and the worker need not send it again.
 */
export async function endBuild(deps: TransitionDeps, attemptId: string, result: BuildResult): Promise<boolean> {
  return await transition(deps, async (trx, wakeups) => {
    const open = await lockOpenBuildAttempts(trx, [attemptId]);
    await endBuilds(trx, wakeups, deps, { open, reported: [{ attemptId, result }] });
    return open.length > 0;
  });
}

/**
 * Records how attempts ended whose leases hold (`lockOpenBuildAttempts`, in this transaction), all at once. What else
 * was reported is refused: it changes nothing.
 */
export async function endBuilds(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  { retry }: Pick<TransitionDeps, "retry">,
  { open, reported }: { readonly open: readonly OpenBuildAttempt[]; readonly reported: readonly ReportedResult[] },
): Promise<void> {
  const results = new Map(reported.map(({ attemptId, result }) => [attemptId, result]));
  const attempts = open.flatMap(({ id, build_id }) => {
    const result = results.get(id);
    return result ? [{ id, buildId: build_id, result }] : [];
  });
  if (attempts.length === 0) return;
  const succeeded = attempts.filter(({ result }) => result.failure === null).map(({ buildId }) => buildId);
  const failed = attempts
    .filter(({ result }) => result.failure !== null && result.failure.class !== "aborted")
    .map(({ buildId }) => buildId);
  const given = attempts.map(({ buildId }) => buildId).filter((id) => !succeeded.includes(id) && !failed.includes(id));
  const builds = await lockEndingBuilds(trx, { succeeded: [...succeeded, ...given], failed });
  const absent = Map.groupBy(
    succeeded.length > 0 ? await listAbsentOutputs(trx, succeeded) : [],
    (row) => row.build_id,
  );

  const ends = attempts.map(({ id, buildId, result }): BuildEnd => {
    const build = builds.get(buildId) as LockedBuild;
    const names = absent.get(buildId)?.map(({ name, store_path }) => store_path ?? `output ${name}`);
    const attempt = { attempt_id: id, build_id: buildId, ran_for_ms: result.build_ms };
    if (result.failure) return { ...attempt, ...failure(build, result.failure, retry, result.build_ms) };
    if (!names) return { ...attempt, ...success(result) };
    const message = `the worker reported success, but these outputs were not uploaded: ${names.join(", ")}`;
    return { ...attempt, ...failure(build, { class: "transient", message }, retry, result.build_ms) };
  });
  await recordBuildEnds(trx, ends);
  const made = buildsOf(ends, [BuildStatus.Completed, BuildStatus.Substituted]);
  await recordBuildResults(
    trx,
    attempts.map(({ id, ...attempt }) => ({ ...attempt, attemptId: id, succeeded: made.includes(attempt.buildId) })),
  );
  if (made.length > 0) await settleEdgesAbove(trx, made);
  const lost = buildsOf(ends, [BuildStatus.FailedPermanent, BuildStatus.FailedTimeout]);
  const failedAbove = lost.length > 0 ? await failDependents(trx, lost) : [];
  await concludeBuilds(trx, wakeups, [...builds.keys(), ...failedAbove]);
  for (const { organization_id } of builds.values()) wakeups.work(organization_id);
}

function buildsOf(ends: readonly BuildEnd[], statuses: readonly BuildStatus[]): string[] {
  return ends.filter(({ status }) => statuses.includes(status)).map(({ build_id }) => build_id);
}

type End = Omit<BuildEnd, "attempt_id" | "build_id">;

function success({ status, build_ms }: BuildResult): End {
  const alreadyValid = status === "already_valid";
  return {
    status: alreadyValid ? BuildStatus.Substituted : BuildStatus.Completed,
    outcome: alreadyValid ? AttemptOutcome.Substituted : AttemptOutcome.Built,
    reason: null,
    message: null,
    ran_for_ms: build_ms,
    retry_in_ms: null,
    deterministic: false,
  };
}

function failure(
  build: LockedBuild,
  { class: failureClass, message }: { readonly class: FailureClass; readonly message: string },
  policy: RetryPolicy,
  ranForMs: number,
): End {
  const decision = decideFailure(failureClass, build.transient_failures, policy);
  const end = { message, retry_in_ms: null, deterministic: false };
  if (decision === "give_back") {
    const status = build.pending_dependencies === 0 ? BuildStatus.Queued : BuildStatus.Created;
    return { ...end, status, outcome: AttemptOutcome.Aborted, reason: null, ran_for_ms: null };
  }
  return {
    ...end,
    status: decision.status,
    outcome: AttemptOutcome.Failed,
    reason: attemptReason(failureClass),
    ran_for_ms: ranForMs,
    retry_in_ms: decision.status === BuildStatus.FailedTransient ? decision.retryInMs : null,
    deterministic: decision.status === BuildStatus.FailedPermanent && decision.deterministic,
  };
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
  const above = await listEvaluationsAbove(trx, buildIds);
  wakeups.evaluations(above.map(({ id }) => id));
  await endEvaluations(
    trx,
    above.filter(({ may_end }) => may_end).map(({ id }) => id),
  );
}
