import type { Transaction } from "kysely";
import {
  countLostAttempts,
  endAttempts,
  lockAttemptsOfWorker,
  lockOpenAttempt,
  type OpenAttempt,
  type ProvenWorker,
} from "../../db/attempts.ts";
import { lockBuilds, moveBuilds, requeueRetries, waitingAbove } from "../../db/build-transitions.ts";
import { endEvaluations, listOverdueEvaluations } from "../../db/evaluation-end.ts";
import { insertMessage } from "../../db/evaluation-graph.ts";
import { lockToStop } from "../../db/evaluation-stop.ts";
import { queueEvaluationsWithCache } from "../../db/evaluation-waiting.ts";
import { extendLeases, listExpiredEvaluations, lockExpiredAttempt, lockExpiredBuilds } from "../../db/leases.ts";
import type { Database } from "../../db/schema.ts";
import { databaseNow } from "../../db/time.ts";
import { shareOpenConnection } from "../../db/worker-connections.ts";
import { isLostTooOften } from "../../domain/failure.ts";
import {
  AttemptKind,
  AttemptOutcome,
  AttemptReason,
  BuildStatus,
  EVALUATING,
  EvaluationStatus,
  MessageLevel,
} from "../../domain/states.ts";
import { DomainError } from "../../errors.ts";
import { derivedUuid } from "../../lib/ids.ts";
import { stopEvaluation } from "./abort.ts";
import { concludeBuilds, failDependents, requeueBuilds } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { loseSuspects } from "./loss.ts";
import { tendRecoveries } from "./recovery.ts";
import type { Wakeups } from "./wakeups.ts";

const BATCH = 100;

const SILENT: LeaseEnd = {
  reason: AttemptReason.Network,
  message: "the worker was silent until its lease ran out",
};
const FORGOTTEN: LeaseEnd = { reason: AttemptReason.Network, message: "the worker no longer knows of it" };

interface LeaseEnd {
  readonly reason: AttemptReason | null;
  readonly message: string;
}

export async function prolongLeases({ db, leaseMs }: TransitionDeps, worker: ProvenWorker): Promise<void> {
  await extendLeases(db, worker, leaseMs);
}

/** Takes back what silent workers held. To be called only while `beatServer` allows it. */
export async function expireLeases(deps: TransitionDeps): Promise<void> {
  for (;;) {
    const builds = await transition(deps, async (trx, wakeups) => {
      const attempts = await lockExpiredBuilds(trx, BATCH);
      await giveBackBuilds(trx, wakeups, attempts, SILENT);
      wakeups.endedAttempts(attempts.map(({ id }) => id));
      return attempts.length;
    });
    const evaluations = await listExpiredEvaluations(deps.db, BATCH);
    for (const attempt of evaluations) await giveBackEvaluation(deps, attempt, SILENT, lockExpiredAttempt);
    const count = builds + evaluations.length;
    if (count > 0) deps.log.warn("leases ran out", { count });
    if (builds < BATCH && evaluations.length < BATCH) return;
  }
}

/**
 * A worker has connected and named the attempts it still knows of. The others it held are given back at once; of the
 * named ones, those whose lease still holds are returned: the worker is to stop the rest. Attempts of organizations it
 * has not proved stay untouched and are not returned, whatever it names. Throws when a newer session of the worker has
 * replaced `sessionId`: what that one was given is none of this one's business.
 */
export async function reattachWorker(
  deps: TransitionDeps,
  worker: ProvenWorker,
  named: readonly string[],
  sessionId: string | null = null,
): Promise<OpenAttempt[]> {
  const { held, lost } = await transition(deps, async (trx, wakeups) => {
    if (sessionId !== null && !(await shareOpenConnection(trx, sessionId))) {
      throw new DomainError("conflict", "a newer session of this worker has begun");
    }
    const open = await lockAttemptsOfWorker(trx, worker);
    const isLost = ({ id }: OpenAttempt) => !named.includes(id);
    const gone = open.filter(isLost);
    await giveBackBuilds(
      trx,
      wakeups,
      gone.filter(({ build_id }) => build_id !== null),
      FORGOTTEN,
    );
    return { held: open.filter((attempt) => !isLost(attempt)), lost: gone };
  });
  for (const attempt of lost) if (attempt.evaluation_id) await giveBackEvaluation(deps, attempt, FORGOTTEN);
  return held;
}

/** A worker has refused an assignment, or hands one back. It is offered again as if it had never been given out. */
export async function returnAttempt(
  deps: TransitionDeps,
  worker: ProvenWorker,
  id: string,
  reason: string,
): Promise<void> {
  const why: LeaseEnd = { reason: null, message: reason };
  const attempt = await transition(deps, async (trx, wakeups) => {
    const found = (await lockAttemptsOfWorker(trx, worker)).find((open) => open.id === id);
    if (found?.build_id) await giveBackBuilds(trx, wakeups, [found], why);
    return found;
  });
  if (attempt?.evaluation_id) await giveBackEvaluation(deps, attempt, why);
}

/** The slow loop's part: pauses that are over, outputs that vanished, and ends that transactions left to each other. */
export async function tidyTransitions(deps: TransitionDeps): Promise<void> {
  for (const organizationId of await requeueRetries(deps.db)) deps.notifier.notify("work", organizationId);
  for (const { id, organization_id } of await queueEvaluationsWithCache(deps.db)) {
    deps.notifier.notify("evaluation", id);
    deps.notifier.notify("work", organization_id);
  }
  await loseSuspects(deps);
  await tendRecoveries(deps);
  const overdue = await listOverdueEvaluations(deps.db);
  if (overdue.length === 0) return;
  await transition(deps, async (trx, wakeups) => {
    const ended = await endEvaluations(trx, overdue);
    wakeups.evaluations(ended.map(({ id }) => id));
  });
}

/** The attempts are open, of builds, and locked by this transaction. */
async function giveBackBuilds(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  attempts: readonly OpenAttempt[],
  why: LeaseEnd,
): Promise<void> {
  if (attempts.length === 0) return;
  const attemptIds = attempts.map(({ id }) => id);
  await endAttempts(trx, attemptIds, { outcome: AttemptOutcome.Aborted, ...why });
  for (const { organization_id } of attempts) wakeups.work(organization_id);
  const ids = attempts.flatMap(({ build_id }) => build_id ?? []);
  const tooOftenIds = why.reason === null ? [] : await lostTooOften(trx, attempts);
  // Also what fails with those: all at once, in id order.
  const above = tooOftenIds.length > 0 ? (await waitingAbove(tooOftenIds).execute(trx)).rows : [];
  const builds = await lockBuilds(trx, [...ids, ...above.map(({ build_id }) => build_id)]);
  const returned = ids.filter((id) => !tooOftenIds.includes(id));
  const failedBelow = await requeueBuilds(
    trx,
    builds.filter(({ id }) => returned.includes(id)),
  );
  const failed = await moveBuilds(trx, tooOftenIds, { from: [BuildStatus.Building], to: BuildStatus.FailedPermanent });
  const failedAbove = failed.length > 0 ? await failDependents(trx, failed) : [];
  await concludeBuilds(trx, wakeups, [...ids, ...failedAbove, ...failedBelow]);
}

/** Of the builds of attempts that end here, those that are given up with them. */
async function lostTooOften(trx: Transaction<Database>, attempts: readonly OpenAttempt[]): Promise<string[]> {
  const ids = attempts.flatMap(({ build_id }) => build_id ?? []);
  const lost = await countLostAttempts(trx, AttemptKind.Build, ids);
  return attempts.flatMap(({ build_id: id, started_at }) => {
    const count = id === null ? undefined : lost.get(id);
    return id !== null && count && isLostTooOften(count, started_at === null ? "idle" : "begun") ? [id] : [];
  });
}

type LockAttempt = (trx: Transaction<Database>, id: string) => Promise<OpenAttempt | undefined>;

/** In a transaction of its own: what it may take to stop the evaluation is locked before everything else. */
async function giveBackEvaluation(
  deps: TransitionDeps,
  { id, evaluation_id }: OpenAttempt,
  why: LeaseEnd,
  lock: LockAttempt = lockOpenAttempt,
): Promise<void> {
  const evaluationId = evaluation_id as string;
  await transition(deps, async (trx, wakeups) => {
    const lost = await countLostAttempts(trx, AttemptKind.Evaluation, [evaluationId]);
    const times = (lost.get(evaluationId)?.begun ?? 0) + 1;
    const stops = why.reason !== null && isLostTooOften({ begun: times, idle: 0 }, "begun");
    if (stops) await lockToStop(trx, evaluationId);
    const attempt = await lock(trx, id);
    if (!attempt) return;
    await endAttempts(trx, [id], { outcome: AttemptOutcome.Aborted, ...why });
    wakeups.endedAttempts([id]);
    wakeups.work(attempt.organization_id);
    wakeups.evaluations([evaluationId]);
    if (stops) return await giveUpEvaluation(trx, wakeups, evaluationId, times);
    await trx
      .updateTable("evaluation")
      .set({ status: EvaluationStatus.Queued, updated_at: databaseNow })
      .where("id", "=", evaluationId)
      .where("status", "in", [...EVALUATING])
      .execute();
  });
}

async function giveUpEvaluation(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  evaluationId: string,
  times: number,
): Promise<void> {
  const reason = `${times} workers were lost while they evaluated this`;
  await trx.updateTable("evaluation").set({ failure: reason }).where("id", "=", evaluationId).execute();
  await insertMessage(trx, {
    id: await derivedUuid(evaluationId, "lost"),
    evaluation_id: evaluationId,
    level: MessageLevel.Error,
    message: reason,
    source: "scheduler",
    attribute: null,
  });
  await stopEvaluation(trx, wakeups, { evaluationId, status: EvaluationStatus.Failed, reason });
}
