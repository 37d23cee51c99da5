import type { Transaction } from "kysely";
import type { TriggerTest } from "../api/triggers.ts";
import type { Database } from "../db/schema.ts";
import { clearForce, isCommitEvaluated } from "../db/triggers.ts";
import { createEvaluation, EvaluationInProgressError } from "./evaluations-create.ts";
import type { ProjectDeps } from "./projects-deps.ts";

export interface TriggerOrder {
  readonly triggerId: string;
  /** A number of the trigger's type. */
  readonly type: number;
  readonly projectId: string;
  readonly organizationId: string;
  /** What the commit was resolved in. */
  readonly repository: string;
  readonly commit: string;
  readonly branch: string | null;
  readonly startedBy: string | null;
  /** A commit that the project has evaluated last, or evaluates now, is not evaluated again. */
  readonly skipSameCommit: boolean;
  /** Is written with the evaluation or not at all; what it throws undoes both. */
  readonly note: (trx: Transaction<Database>) => Promise<void>;
}

class SameCommitError extends Error {
  override readonly name = "SameCommitError";
}

/**
 * Begins an evaluation as the project's concurrency policy lets it. The row of the trigger is written in the same
 * transaction: a server that dies before its end has done nothing, and after it will not do it again.
 */
export async function fireTrigger(
  deps: Pick<ProjectDeps, "db" | "clock" | "random" | "notifier">,
  { triggerId, type, skipSameCommit, note, ...order }: TriggerOrder,
): Promise<TriggerTest> {
  const { projectId, commit, branch } = order;
  // Once more within: another one may begin meanwhile. Here it costs no locks.
  if (skipSameCommit && (await isCommitEvaluated(deps.db, projectId, { commit, branch, except: null }))) {
    return { outcome: "SkippedSameCommit" };
  }
  try {
    const { id } = await createEvaluation(deps, {
      ...order,
      concurrency: "project",
      trigger: { id: triggerId, type },
      within: async (trx, evaluationId) => {
        const same = { commit, branch, except: evaluationId };
        const seen = skipSameCommit && (await isCommitEvaluated(trx, projectId, same));
        if (seen) throw new SameCommitError("the commit was evaluated meanwhile");
        await clearForce(trx, projectId);
        await note(trx);
      },
    });
    return { outcome: "Created", evaluation_id: id };
  } catch (error) {
    if (error instanceof SameCommitError) return { outcome: "SkippedSameCommit" };
    if (error instanceof EvaluationInProgressError) return { outcome: "SkippedConcurrency" };
    throw error;
  }
}
