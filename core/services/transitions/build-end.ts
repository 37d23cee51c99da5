import type { Transaction } from "kysely";
import {
  type BuildEnd,
  type EndingBuild,
  lockEndingBuilds,
  lockEvaluationsAbove,
  recordBuildEnds,
} from "../../db/build-ends.ts";
import { type LockedBuild, lockFailedBelow, lockWaitingDependents, moveBuilds } from "../../db/build-transitions.ts";
import { endLockedEvaluations } from "../../db/evaluation-end.ts";
import { type AbsentOutput, listAbsentOutputs } from "../../db/organization-stores.ts";
import type { Database } from "../../db/schema.ts";
import { attemptReason, decideFailure, type RetryPolicy } from "../../domain/failure.ts";
import { AttemptOutcome, BuildStatus } from "../../domain/states.ts";
import type { BuildResult, FailureClass } from "../../protocol/worker-messages.ts";
import { recordProducts } from "../build-results.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { placeMadeOutputs, recordRealisations } from "./realise.ts";
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
    const reported = [{ attemptId, result }];
    const ending = await lockReported(trx, reported);
    await endBuilds(trx, wakeups, deps, { ending, reported, offered: new Set() });
    return ending.length > 0;
  });
}

/** Locks what is to end, and what that touches. A result whose attempt is not among it is refused. */
export async function lockReported(
  trx: Transaction<Database>,
  reported: readonly ReportedResult[],
): Promise<EndingBuild[]> {
  const attemptIds = [...new Set(reported.map(({ attemptId }) => attemptId))];
  const failed = reported.filter(({ result }) => result.failure !== null && result.failure.class !== "aborted");
  return await lockEndingBuilds(trx, { attemptIds, failed: failed.map(({ attemptId }) => attemptId) });
}

/**
 * Records how attempts ended, all at once. `ending` is what `lockReported` has locked in this transaction, `offered`
 * the base names of paths that this transaction has put into a store which their organization reads.
 */
export async function endBuilds(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  { retry }: Pick<TransitionDeps, "retry">,
  {
    ending,
    reported,
    offered,
  }: {
    readonly ending: readonly EndingBuild[];
    readonly reported: readonly ReportedResult[];
    readonly offered: ReadonlySet<string>;
  },
): Promise<void> {
  if (ending.length === 0) return;
  // The first result of an attempt counts.
  const results = new Map(reported.toReversed().map(({ attemptId, result }) => [attemptId, result]));
  const ended = ending.map((build) => ({ build, result: results.get(build.attempt_id) as BuildResult }));
  const { paths, faults } = await placeMadeOutputs(trx, ended);
  const unproven = ended.filter(({ build, result }) => {
    const outputs = paths.get(build.id) ?? build.outputs;
    return result.failure === null && !outputs.every((name) => offered.has(name));
  });
  const absent = await absentOutputs(
    trx,
    unproven.map(({ build }) => build.id),
  );
  const faultOf = ({ id }: EndingBuild) => faults.get(id) ?? absenceOf(absent.get(id));
  const ends = ended.map(({ build, result }) => endOf(build, result, faultOf(build), retry));
  const ready = await recordBuildEnds(trx, ends);
  const made = buildsOf(ends, [BuildStatus.Completed, BuildStatus.Substituted]);
  await recordProducts(
    trx,
    ended.map(({ build, result }) => ({ buildId: build.id, succeeded: made.includes(build.id), result })),
  );
  const resolved = ending.filter(({ id, resolution }) => resolution !== 0 && made.includes(id));
  for (const [organizationId, own] of Map.groupBy(resolved, ({ organization_id }) => organization_id)) {
    await recordRealisations(
      trx,
      organizationId,
      own.map(({ id }) => id),
    );
  }
  const lost = buildsOf(ends, [BuildStatus.FailedPermanent, BuildStatus.FailedTimeout]);
  const failedAbove = lost.length > 0 ? await failDependents(trx, lost) : [];
  const again = ended.filter(({ build }, index) => waitsAgain(build, (ends[index] as BuildEnd).status));
  const failedAgain = await failWithDependencies(
    trx,
    again.map(({ build }) => build.id),
  );
  const over = await concludeBuilds(trx, wakeups, [...ending.map(({ id }) => id), ...failedAbove, ...failedAgain]);
  // A success with nothing above it makes no work: the place that became free is asked for by its worker.
  if (ready || over || made.length < ends.length)
    for (const { organization_id } of ending) wakeups.work(organization_id);
}

async function absentOutputs(
  trx: Transaction<Database>,
  buildIds: readonly string[],
): Promise<ReadonlyMap<string, readonly AbsentOutput[]>> {
  return Map.groupBy(buildIds.length > 0 ? await listAbsentOutputs(trx, buildIds) : [], (row) => row.build_id);
}

function absenceOf(absent: readonly AbsentOutput[] | undefined): string | null {
  if (!absent) return null;
  const names = absent.map(({ name, store_path }) => store_path ?? `output ${name}`).join(", ");
  return `the worker reported success, but these outputs were not uploaded: ${names}`;
}

function buildsOf(ends: readonly BuildEnd[], statuses: readonly BuildStatus[]): string[] {
  return ends.filter(({ status }) => statuses.includes(status)).map(({ build_id }) => build_id);
}

function endOf(build: EndingBuild, result: BuildResult, fault: string | null, policy: RetryPolicy): BuildEnd {
  const attempt = {
    attempt_id: build.attempt_id,
    build_id: build.id,
    ran_for_ms: result.build_ms,
    retry_in_ms: null,
    deterministic: false,
    ...(result.metrics && { build_ms: result.build_ms, ...result.metrics }),
  };
  if (result.failure) return { ...attempt, ...failureOf(build, result.failure, policy) };
  if (fault !== null) {
    return { ...attempt, ...failureOf(build, { class: "transient", message: fault }, policy) };
  }
  const alreadyValid = result.status === "already_valid";
  const status = alreadyValid ? BuildStatus.Substituted : BuildStatus.Completed;
  const outcome = alreadyValid ? AttemptOutcome.Substituted : AttemptOutcome.Built;
  return { ...attempt, status, outcome, reason: null, message: null };
}

function failureOf(
  build: LockedBuild,
  { class: failureClass, message }: { readonly class: FailureClass; readonly message: string },
  policy: RetryPolicy,
): Pick<BuildEnd, "status" | "outcome" | "reason" | "message"> & Partial<BuildEnd> {
  const decision = decideFailure(failureClass, build.transient_failures, policy);
  if (decision === "give_back") {
    const status = build.pending_dependencies === 0 ? BuildStatus.Queued : BuildStatus.Created;
    return { status, outcome: AttemptOutcome.Aborted, reason: null, message, ran_for_ms: null };
  }
  const { status } = decision;
  const failure = { status, outcome: AttemptOutcome.Failed, reason: attemptReason(failureClass), message };
  if (status === BuildStatus.FailedTransient) return { ...failure, retry_in_ms: decision.retryInMs };
  return { ...failure, deterministic: status === BuildStatus.FailedPermanent && decision.deterministic };
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

/** An input was lost while it ran. */
function waitsAgain({ pending_dependencies }: LockedBuild, status: BuildStatus): boolean {
  return pending_dependencies > 0 && (status === BuildStatus.Created || status === BuildStatus.FailedTransient);
}

/**
 * Builds that ran, and wait again, were passed over when what they wait for failed or was aborted: they fail with it
 * now, and what rests on them too. They are locked by this transaction. Returns what failed.
 */
async function failWithDependencies(trx: Transaction<Database>, buildIds: readonly string[]): Promise<string[]> {
  if (buildIds.length === 0) return [];
  const failed = await lockFailedBelow(trx, buildIds);
  return failed.length > 0 ? await failDependents(trx, failed) : [];
}

/**
 * What a worker gave back or lost is offered again. The builds are locked by this transaction. Returns what failed
 * instead, since an input was lost meanwhile and will not be there again.
 */
export async function requeueBuilds(trx: Transaction<Database>, builds: readonly LockedBuild[]): Promise<string[]> {
  const ready = builds.filter((build) => build.pending_dependencies === 0).map(({ id }) => id);
  const waiting = builds.filter((build) => build.pending_dependencies > 0).map(({ id }) => id);
  await moveBuilds(trx, ready, { from: [BuildStatus.Building], to: BuildStatus.Queued });
  await moveBuilds(trx, waiting, { from: [BuildStatus.Building], to: BuildStatus.Created });
  return await failWithDependencies(trx, waiting);
}

/** Ends the evaluations for which these builds were the last ones, and wakes who watches. True when one has ended. */
export async function concludeBuilds(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  buildIds: readonly string[],
): Promise<boolean> {
  const above = await lockEvaluationsAbove(trx, buildIds);
  wakeups.evaluations(above.map(({ id }) => id));
  const ended = await endLockedEvaluations(
    trx,
    above.filter(({ may_end }) => may_end).map(({ id }) => id),
  );
  return ended.length > 0;
}
