import type { Transaction } from "kysely";
import { endAttempts, lockOpenAttempt, shareOpenAttempt } from "../../db/attempts.ts";
import { endEvaluations } from "../../db/evaluation-end.ts";
import { insertMessage } from "../../db/evaluation-graph.ts";
import { findEvaluationOfAttempt, lockToStop } from "../../db/evaluation-stop.ts";
import { jsonbText } from "../../db/json-text.ts";
import type { Database } from "../../db/schema.ts";
import type { LockedInput } from "../../db/tables/verdict.ts";
import { databaseNow } from "../../db/time.ts";
import { attemptReason } from "../../domain/failure.ts";
import { AttemptKind, AttemptOutcome, EVALUATING, EvaluationStatus, type MessageLevel } from "../../domain/states.ts";
import type { EvaluationResult } from "../../protocol/worker-messages.ts";
import { stopEvaluation } from "./abort.ts";
import { type TransitionDeps, transition } from "./deps.ts";

/** How often the source of one evaluation is fetched. */
const FETCHES_MAX = 3;

export type EvaluationPhase = "fetching" | "evaluating_flake" | "evaluating_derivations";

export interface ReportedCommit {
  readonly message: string;
  readonly author: string;
  /** What the flake's lock says; absent where the worker does not know. */
  readonly inputs?: readonly LockedInput[] | undefined;
}

/** Records how far the worker is. A late or repeated word of an attempt that no longer holds changes nothing. */
export async function advanceEvaluation(
  deps: TransitionDeps,
  attemptId: string,
  phase: EvaluationPhase,
  commit: ReportedCommit | undefined,
): Promise<void> {
  await transition(deps, async (trx, wakeups) => {
    const attempt = await shareOpenAttempt(trx, attemptId);
    if (!attempt?.evaluation_id) return;
    const about = commit ? describeCommit(commit) : {};
    await trx
      .updateTable("evaluation")
      .set({ ...phaseChange(phase), ...about, updated_at: databaseNow })
      .where("id", "=", attempt.evaluation_id)
      .where("status", "in", [...EVALUATING])
      .execute();
    wakeups.evaluations([attempt.evaluation_id]);
  });
}

/** Records an error, warning or notice once, however often it arrives: its id follows from the attempt. */
export async function recordEvaluationMessage(
  deps: TransitionDeps,
  attemptId: string,
  message: {
    readonly id: string;
    readonly level: MessageLevel;
    readonly text: string;
    readonly source: string;
    readonly attribute: readonly string[] | null;
  },
): Promise<void> {
  await transition(deps, async (trx, wakeups) => {
    const attempt = await shareOpenAttempt(trx, attemptId);
    if (!attempt?.evaluation_id) return;
    await insertMessage(trx, {
      id: message.id,
      evaluation_id: attempt.evaluation_id,
      level: message.level,
      message: message.text,
      source: message.source,
      attribute: message.attribute,
    });
    wakeups.evaluations([attempt.evaluation_id]);
  });
}

/**
 * Records how an evaluation's attempt ended: it goes on to build what it found, or it failed as a whole. False when the
 * lease no longer holds.
 */
export async function endEvaluationAttempt(
  deps: TransitionDeps,
  attemptId: string,
  result: EvaluationResult,
  messageId: string,
): Promise<boolean> {
  const { failure } = result;
  return await transition(deps, async (trx, wakeups) => {
    if (failure && failure.class !== "aborted") {
      // It stops the evaluation with what it found: those locks come together, and in their order.
      const stopped = await findEvaluationOfAttempt(trx, attemptId);
      if (stopped) await lockToStop(trx, stopped);
    }
    const attempt = await lockOpenAttempt(trx, attemptId);
    if (!attempt?.evaluation_id) return false;
    const evaluationId = attempt.evaluation_id;
    const evaluation = trx.selectFrom("evaluation").select("status").where("id", "=", evaluationId).forUpdate();
    if (!(await evaluation.executeTakeFirst())) return false;

    if (failure?.class === "aborted") {
      // The worker stops for reasons of its own: another one evaluates.
      await endAttempts(trx, [attemptId], { outcome: AttemptOutcome.Aborted, reason: null, message: failure.message });
      await queueAgain(trx, evaluationId, {});
    } else if (failure?.class === "inputs_unavailable" && (await mayFetchAgain(trx, evaluationId))) {
      // The source was collected between its fetch and this: it is fetched once more.
      await endAttempts(trx, [attemptId], { outcome: AttemptOutcome.Aborted, reason: null, message: failure.message });
      await queueAgain(trx, evaluationId, { source: null });
    } else if (!failure && attempt.kind === AttemptKind.Fetch && result.source) {
      await endAttempts(trx, [attemptId], { outcome: AttemptOutcome.Built, reason: null, message: null });
      await queueAgain(trx, evaluationId, { source: JSON.stringify(result.source) });
    } else if (failure) {
      const end = { outcome: AttemptOutcome.Failed, reason: attemptReason(failure.class), message: failure.message };
      await endAttempts(trx, [attemptId], end);
      await insertMessage(trx, {
        id: messageId,
        evaluation_id: evaluationId,
        level: 0,
        message: failure.message,
        source: "evaluator",
        attribute: null,
      });
      await trx.updateTable("evaluation").set({ failure: failure.message }).where("id", "=", evaluationId).execute();
      await stopEvaluation(trx, wakeups, { evaluationId, status: EvaluationStatus.Failed, reason: failure.message });
    } else {
      await endAttempts(trx, [attemptId], { outcome: AttemptOutcome.Built, reason: null, message: null });
      await trx
        .updateTable("evaluation")
        .set({ status: EvaluationStatus.Building, building_started_at: databaseNow, updated_at: databaseNow })
        .where("id", "=", evaluationId)
        .where("status", "in", [...EVALUATING])
        .execute();
      await endEvaluations(trx, [evaluationId]);
    }
    wakeups.evaluations([evaluationId]);
    wakeups.work(attempt.organization_id);
    return true;
  });
}

/** For the next part, or for the same one again. */
async function queueAgain(
  trx: Transaction<Database>,
  evaluationId: string,
  changes: { readonly source?: string | null },
): Promise<void> {
  await trx
    .updateTable("evaluation")
    .set({ ...changes, status: EvaluationStatus.Queued, updated_at: databaseNow })
    .where("id", "=", evaluationId)
    .where("status", "in", [...EVALUATING])
    .execute();
}

/** Whether what was fetched has been lost less often than it is worth to fetch it. */
async function mayFetchAgain(trx: Transaction<Database>, evaluationId: string): Promise<boolean> {
  const { count } = await trx
    .selectFrom("attempt")
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .where("evaluation_id", "=", evaluationId)
    .where("kind", "=", AttemptKind.Fetch)
    .executeTakeFirstOrThrow();
  return count > 0 && count < FETCHES_MAX;
}

function describeCommit({ message, author, inputs }: ReportedCommit) {
  const locked = inputs ? { locked_inputs: jsonbText(inputs) } : {};
  return { commit_message: message, commit_author: author, ...locked };
}

function phaseChange(phase: EvaluationPhase) {
  switch (phase) {
    case "fetching":
      return { status: EvaluationStatus.Fetching };
    case "evaluating_flake":
      return { status: EvaluationStatus.EvaluatingFlake, eval_flake_started_at: databaseNow };
    case "evaluating_derivations":
      return { status: EvaluationStatus.EvaluatingDerivation, eval_drv_started_at: databaseNow };
  }
}
