import type { Transaction } from "kysely";
import {
  countLostAttempts,
  endAttempts,
  extendAllLeases,
  extendLeases,
  lockAttemptsOfWorker,
  lockExpiredAttempts,
  type OpenAttempt,
  type ProvenWorker,
} from "../../db/attempts.ts";
import { lockBuilds, moveBuilds, requeueRetries } from "../../db/build-transitions.ts";
import { endEvaluations, listOverdueEvaluations } from "../../db/evaluation-end.ts";
import { insertMessage } from "../../db/evaluation-graph.ts";
import { queueEvaluationsWithCache } from "../../db/evaluation-waiting.ts";
import type { Database } from "../../db/schema.ts";
import { databaseNow } from "../../db/time.ts";
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
import { derivedUuid } from "../../lib/ids.ts";
import { stopEvaluation } from "./abort.ts";
import { concludeBuilds, failDependents, requeueBuilds } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import type { Wakeups } from "./wakeups.ts";

const EXPIRED_BATCH = 100;

/** To be called once at a start, before anything else: see `extendAllLeases`. */
export async function keepLeasesOverRestart({ db, leaseMs }: TransitionDeps): Promise<void> {
  await extendAllLeases(db, leaseMs);
}

export async function prolongLeases({ db, leaseMs }: TransitionDeps, worker: ProvenWorker): Promise<void> {
  await extendLeases(db, worker, leaseMs);
}

/** Takes back what silent workers held. */
export async function expireLeases(deps: TransitionDeps): Promise<void> {
  for (;;) {
    const expired = await transition(deps, async (trx, wakeups) => {
      const attempts = await lockExpiredAttempts(trx, EXPIRED_BATCH);
      await giveBack(trx, wakeups, attempts, {
        reason: AttemptReason.Network,
        message: "the worker was silent until its lease ran out",
      });
      wakeups.endedAttempts(attempts.map(({ id }) => id));
      return attempts.length;
    });
    if (expired > 0) deps.log.warn("leases ran out", { count: expired });
    if (expired < EXPIRED_BATCH) return;
  }
}

/**
 * A worker has connected and named the attempts it still knows of. The others it held are given back at once; of the
 * named ones, those whose lease still holds are returned: the worker is to stop the rest. Attempts of organizations it
 * has not proved stay untouched and are not returned, whatever it names.
 */
export async function reattachWorker(
  deps: TransitionDeps,
  worker: ProvenWorker,
  named: readonly string[],
): Promise<OpenAttempt[]> {
  return await transition(deps, async (trx, wakeups) => {
    const open = await lockAttemptsOfWorker(trx, worker);
    const lost = open.filter(({ id }) => !named.includes(id));
    await giveBack(trx, wakeups, lost, {
      reason: AttemptReason.Network,
      message: "the worker no longer knows of it",
    });
    return open.filter(({ id }) => named.includes(id));
  });
}

/** A worker has refused an assignment, or hands one back. It is offered again as if it had never been given out. */
export async function returnAttempt(
  deps: TransitionDeps,
  worker: ProvenWorker,
  id: string,
  reason: string,
): Promise<void> {
  await transition(deps, async (trx, wakeups) => {
    const open = await lockAttemptsOfWorker(trx, worker);
    await giveBack(
      trx,
      wakeups,
      open.filter((attempt) => attempt.id === id),
      { reason: null, message: reason },
    );
  });
}

/** The slow loop's part: pauses that are over, and ends that two transactions left to each other. */
export async function tidyTransitions(deps: TransitionDeps): Promise<void> {
  for (const organizationId of await requeueRetries(deps.db)) deps.notifier.notify("work", organizationId);
  for (const { id, organization_id } of await queueEvaluationsWithCache(deps.db)) {
    deps.notifier.notify("evaluation", id);
    deps.notifier.notify("work", organization_id);
  }
  const overdue = await listOverdueEvaluations(deps.db);
  if (overdue.length === 0) return;
  await transition(deps, async (trx, wakeups) => {
    const ended = await endEvaluations(trx, overdue);
    wakeups.evaluations(ended.map(({ id }) => id));
  });
}

async function giveBack(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  attempts: readonly OpenAttempt[],
  why: { readonly reason: AttemptReason | null; readonly message: string },
): Promise<void> {
  if (attempts.length === 0) return;
  const end = { outcome: AttemptOutcome.Aborted, ...why };
  await endAttempts(
    trx,
    attempts.map(({ id }) => id),
    end,
  );
  for (const { organization_id } of attempts) wakeups.work(organization_id);
  await giveBackBuilds(trx, wakeups, subjects(attempts, "build_id"));
  await giveBackEvaluations(trx, wakeups, subjects(attempts, "evaluation_id"));
}

async function giveBackBuilds(trx: Transaction<Database>, wakeups: Wakeups, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  const lost = await countLostAttempts(trx, AttemptKind.Build, ids);
  const builds = await lockBuilds(trx, ids);
  const tooOften = builds.filter(({ id }) => isLostTooOften(lost.get(id) ?? 0)).map(({ id }) => id);
  await requeueBuilds(
    trx,
    builds.filter(({ id }) => !tooOften.includes(id)),
  );
  const failed = await moveBuilds(trx, tooOften, { from: [BuildStatus.Building], to: BuildStatus.FailedPermanent });
  const failedAbove = failed.length > 0 ? await failDependents(trx, failed) : [];
  await concludeBuilds(trx, wakeups, [...ids, ...failedAbove]);
}

async function giveBackEvaluations(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  const lost = await countLostAttempts(trx, AttemptKind.Evaluation, ids);
  for (const id of ids) {
    const times = lost.get(id) ?? 0;
    if (isLostTooOften(times)) {
      const reason = `${times} workers were lost while they evaluated this`;
      await trx.updateTable("evaluation").set({ failure: reason }).where("id", "=", id).execute();
      await insertMessage(trx, {
        id: await derivedUuid(id, "lost"),
        evaluation_id: id,
        level: MessageLevel.Error,
        message: reason,
        source: "scheduler",
        attribute: null,
      });
      await stopEvaluation(trx, wakeups, { evaluationId: id, status: EvaluationStatus.Failed, reason });
    } else {
      await trx
        .updateTable("evaluation")
        .set({ status: EvaluationStatus.Queued, updated_at: databaseNow })
        .where("id", "=", id)
        .where("status", "in", [...EVALUATING])
        .execute();
    }
    wakeups.evaluations([id]);
  }
}

function subjects(attempts: readonly OpenAttempt[], column: "build_id" | "evaluation_id"): string[] {
  return attempts.flatMap((attempt) => attempt[column] ?? []);
}
