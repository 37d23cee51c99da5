import { lockBuilds, moveBuilds, waitingAbove } from "../../db/build-transitions.ts";
import { insertMessage } from "../../db/evaluation-graph.ts";
import { lockProjectToEvaluate } from "../../db/projects-evaluations.ts";
import {
  deleteMetNeeds,
  hasRecoveryNeeds,
  hideRecovery,
  holdBackRetries,
  insertRecovery,
  listRecoveries,
  listStuckEvaluations,
  type RecoveryRound,
  type StuckEvaluation,
  showRecovery,
} from "../../db/recovery.ts";
import { inTransaction } from "../../db/transaction.ts";
import { BuildStatus, MessageLevel, SUCCESSFUL_BUILD } from "../../domain/states.ts";
import { MINUTE } from "../../lib/clock.ts";
import { derivedUuid, uuidV7 } from "../../lib/ids.ts";
import { concludeBuilds, failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";

/** The source of messages of evaluations for which recoveries were in vain. */
export const RECOVERY_SOURCE = "recovery";

/** What runs fails by itself, or has what it needs. */
const NOT_RUNNING: readonly BuildStatus[] = [
  BuildStatus.Created,
  BuildStatus.Queued,
  BuildStatus.FailedTransient,
  BuildStatus.Aborted,
];
/** What three evaluations of a commit do not bring back is not made by that commit any more. */
const ROUNDS_MAX = 3;
const STUCK_MAX = 1_000;
/** Longer than the pause between two calls. */
const RETRY_PAUSE_MS: number = 1 * MINUTE;

/**
 * Sees to builds whose outputs are gone and of which only the outputs were ever recorded, and to those whose sources
 * are gone: an evaluation of the same commit, beside the one that waits, records how they are made and brings the
 * sources. After three rounds in vain they fail, and say so. To be called every few seconds.
 */
export async function tendRecoveries(deps: TransitionDeps): Promise<void> {
  const { db, notifier } = deps;
  if (await hasRecoveryNeeds(db)) {
    await inTransaction(db, deleteMetNeeds, deps);
    await holdBackRetries(db, RETRY_PAUSE_MS);
  }
  const stuck = await listStuckEvaluations(db, STUCK_MAX);
  const shown = await hideRecovery(
    db,
    stuck.map(({ evaluation_id }) => evaluation_id),
  );
  for (const id of shown) notifier.notify("evaluation", id);
  if (stuck.length === 0) return;

  const rounds = Map.groupBy(
    await listRecoveries(db, [...new Set(stuck.map(({ root_id }) => root_id))]),
    (r) => r.root_id,
  );
  // One recovery brings back all that its commit makes: whoever needs it is asked once.
  const started = new Map<string, string>();
  for (const waiting of Map.groupBy(stuck, ({ build_id }) => build_id).values()) {
    const next = decide(waiting, rounds, started);
    if (next.kind === "give_up") await giveUp(deps, waiting);
    else if (next.kind === "begin") {
      const id = await begin(deps, next.rootId);
      if (id === null) continue;
      started.set(next.rootId, id);
      await show(deps, waiting, id, ROUNDS_MAX - (rounds.get(next.rootId)?.length ?? 0) - 1);
    } else if (next.id !== null) await show(deps, waiting, next.id, next.roundsLeft);
  }
}

type Next =
  | { readonly kind: "wait"; readonly id: string | null; readonly roundsLeft: number }
  | { readonly kind: "begin"; readonly rootId: string }
  | { readonly kind: "give_up" };

function decide(
  waiting: readonly StuckEvaluation[],
  rounds: ReadonlyMap<string, readonly RecoveryRound[]>,
  started: ReadonlyMap<string, string>,
): Next {
  const roots = [...new Set(waiting.map(({ root_id }) => root_id))];
  for (const root of roots) {
    const own = rounds.get(root) ?? [];
    const running = started.get(root) ?? own.find(({ evaluating }) => evaluating)?.id;
    if (running !== undefined) return { kind: "wait", id: running, roundsLeft: Math.max(0, ROUNDS_MAX - own.length) };
  }
  // It is under evaluation itself, and may come across what is missing.
  if (waiting.some(({ evaluating }) => evaluating)) return { kind: "wait", id: null, roundsLeft: 0 };
  const rootId = roots.find((root) => (rounds.get(root)?.length ?? 0) < ROUNDS_MAX);
  return rootId === undefined ? { kind: "give_up" } : { kind: "begin", rootId };
}

/** Null when it has begun already, or there is nothing left to recover. */
async function begin(deps: TransitionDeps, rootId: string): Promise<string | null> {
  return await transition(deps, async (trx, wakeups) => {
    const root = await trx
      .selectFrom("evaluation")
      .select(["project_id", "organization_id"])
      .where("id", "=", rootId)
      .executeTakeFirst();
    // Evaluations of one project begin one after the other; so do two servers that both see the need.
    if (!root || !(await lockProjectToEvaluate(trx, root.project_id))) return null;
    const rounds = await listRecoveries(trx, [rootId]);
    if (rounds.length >= ROUNDS_MAX || rounds.some(({ evaluating }) => evaluating)) return null;
    const id = uuidV7(deps.clock.now(), deps.random);
    if (!(await insertRecovery(trx, id, rootId))) return null;
    deps.log.warn("an output that vanished is recovered by evaluating its commit again", {
      evaluation: rootId,
      recovery: id,
      round: rounds.length + 1,
    });
    wakeups.work(root.organization_id);
    wakeups.evaluations([id, rootId]);
    return id;
  });
}

async function show(
  { db }: TransitionDeps,
  waiting: readonly StuckEvaluation[],
  evaluation: string,
  rounds_left: number,
): Promise<void> {
  const ids = waiting.map(({ evaluation_id }) => evaluation_id).filter((id) => id !== evaluation);
  await showRecovery(db, ids, { kind: "recovery", evaluation, rounds_left });
}

async function giveUp(deps: TransitionDeps, waiting: readonly StuckEvaluation[]): Promise<void> {
  const { build_id: buildId, drv_path } = waiting[0] as StuckEvaluation;
  const message =
    `the outputs or the sources of ${drv_path} have vanished from every cache, and ${ROUNDS_MAX} evaluations of the ` +
    "commit did not bring them back";
  await transition(deps, async (trx, wakeups) => {
    const above = (await waitingAbove([buildId]).execute(trx)).rows.map(({ build_id }) => build_id);
    const locked = await lockBuilds(trx, [buildId, ...above]);
    const failed = await moveBuilds(trx, [buildId], {
      from: [...SUCCESSFUL_BUILD, ...NOT_RUNNING],
      to: BuildStatus.FailedPermanent,
    });
    if (failed.length === 0) return;
    for (const { evaluation_id } of waiting) {
      const id = await derivedUuid(evaluation_id, `lost ${buildId}`);
      const about = { level: MessageLevel.Error, message, source: RECOVERY_SOURCE, attribute: null };
      await insertMessage(trx, { id, evaluation_id, ...about });
    }
    const failedAbove = await failDependents(trx, failed);
    await concludeBuilds(trx, wakeups, [...failed, ...failedAbove]);
    for (const { organization_id } of locked) wakeups.work(organization_id);
  });
}
