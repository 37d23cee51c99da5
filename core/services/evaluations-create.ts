import type { Transaction } from "kysely";
import { CONCURRENCY, type Concurrency } from "../api/projects.ts";
import { lockToStop } from "../db/evaluation-stop.ts";
import { findCacheObstacle } from "../db/evaluation-waiting.ts";
import {
  type EvaluationTriggerRow,
  findLastEvaluation,
  insertEvaluation,
  listCompetingEvaluations,
  lockProjectToEvaluate,
  lockSubscriptions,
} from "../db/projects-evaluations.ts";
import type { Database } from "../db/schema.ts";
import type { InputOverride } from "../db/tables/flake-inputs.ts";
import { mayDeploy } from "../domain/deployment.ts";
import type { WaitingReason } from "../domain/scheduling/waiting-reason.ts";
import { EvaluationStatus, evaluationStatusName } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { stopEvaluation } from "./transitions/abort.ts";
import { transition } from "./transitions/deps.ts";
import type { Wakeups } from "./transitions/wakeups.ts";

export interface EvaluationOrder {
  readonly projectId: string;
  readonly organizationId: string;
  /** What the commit was resolved in. */
  readonly repository: string;
  readonly commit: string;
  readonly startedBy: string | null;
  /** Of the project's repository; absent for what is of none. */
  readonly branch?: string | null;
  /** What to do about another evaluation of the project that goes on; `project`: as that is set. Absent: `skip`. */
  readonly concurrency?: Concurrency | "project";
  /** What is sent to be built has no project that says what to evaluate. */
  readonly source?: {
    readonly wildcard: string;
    readonly commitMessage: string;
    readonly overrides: readonly InputOverride[];
  };
  /** What began it, where that was no person. */
  readonly trigger?: EvaluationTriggerRow;
  /** Is written in the same transaction; what it throws undoes all of it. */
  readonly within?: (trx: Transaction<Database>, evaluationId: string) => Promise<void>;
  /** A member has to look at it first. */
  readonly approval?: { readonly pr_number: number | null; readonly pr_author: string | null };
}

export interface CreatedEvaluation {
  readonly id: string;
  readonly waiting: WaitingReason | null;
  /** Those whose place it takes. */
  readonly aborted: readonly string[];
}

/** Nothing was created, because another evaluation of the project goes on. */
export class EvaluationInProgressError extends DomainError {
  constructor({ id, status }: { readonly id: string; readonly status: number }) {
    const state = evaluationStatusName(status);
    super(
      "bad_request",
      `Evaluation ${id} of this project is in progress (${state}): wait for its end or abort it first`,
    );
  }
}

/**
 * A new evaluation, after what is done about one that goes on: `hard_abort` ends it with the builds that only it needs,
 * `soft_abort` lets those run, `all` lets both go on, `skip` creates none. Evaluations that run beside others leave
 * them alone and are left alone. The new one waits when its builds would have no cache to go to. Throws
 * `EvaluationInProgressError` for `skip`.
 */
export async function createEvaluation(
  deps: Pick<ProjectDeps, "db" | "clock" | "random" | "notifier">,
  order: EvaluationOrder,
): Promise<CreatedEvaluation> {
  const { projectId, organizationId, repository, commit, startedBy, branch = null } = order;
  return await transition(deps, async (trx, wakeups) => {
    const obstacle = await findObstacle(trx, organizationId);
    const project = await lockProjectToEvaluate(trx, projectId);
    if (!project) throw new DomainError("not_found", "Project not found");
    if (project.organization_id !== organizationId) {
      throw new DomainError(
        "conflict",
        "The project went to another organization meanwhile: start the evaluation there",
      );
    }
    if (!order.source && project.repository !== repository) {
      throw new DomainError("conflict", "The project's repository was changed meanwhile: start the evaluation again");
    }
    const { concurrency = "skip" } = order;
    const policy = concurrency === "project" ? (CONCURRENCY[project.concurrency] as Concurrency) : concurrency;
    const active = policy === "all" ? [] : await listCompetingEvaluations(trx, projectId);
    const [other] = active;
    if (other && policy === "skip") throw new EvaluationInProgressError(other);
    const id = uuidV7(deps.clock.now(), deps.random);
    for (const { id: older } of active)
      await giveWay(trx, wakeups, { older, newer: id, keep: policy === "soft_abort" });

    const waiting: WaitingReason | null = order.approval
      ? { kind: "approval", ...order.approval }
      : obstacle && { kind: obstacle };
    await insertEvaluation(trx, {
      id,
      organization_id: organizationId,
      project_id: projectId,
      repository,
      commit_hash: commit,
      wildcard: order.source?.wildcard ?? project.wildcard,
      status: waiting ? EvaluationStatus.Waiting : EvaluationStatus.Queued,
      waiting_reason: waiting,
      concurrent: policy === "all",
      branch,
      deploys: mayDeploy({
        branch,
        triggerType: order.trigger?.type ?? null,
        ofRepository: order.source === undefined,
        needsApproval: order.approval !== undefined,
      }),
      previous_id: (await findLastEvaluation(trx, projectId))?.id ?? null,
      started_by: startedBy,
      ...(order.trigger && { trigger: order.trigger }),
      ...(order.source && { commit_message: order.source.commitMessage, input_overrides: order.source.overrides }),
    });
    await order.within?.(trx, id);
    wakeups.work(organizationId);
    wakeups.evaluations([id]);
    return { id, waiting, aborted: active.map((evaluation) => evaluation.id) };
  });
}

async function findObstacle(trx: Transaction<Database>, organizationId: string) {
  const obstacle = await findCacheObstacle(trx, organizationId);
  if (obstacle === null) return null;
  // A subscription that is made at this moment either is seen now, or sees this evaluation waiting.
  await lockSubscriptions(trx, organizationId);
  return await findCacheObstacle(trx, organizationId);
}

async function giveWay(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  { older, newer, keep }: { readonly older: string; readonly newer: string; readonly keep: boolean },
): Promise<void> {
  await lockToStop(trx, older);
  await stopEvaluation(trx, wakeups, {
    evaluationId: older,
    status: EvaluationStatus.Aborted,
    reason: `a newer evaluation of the project took its place: ${newer}`,
    builds: keep ? "keep" : "abort",
  });
}
