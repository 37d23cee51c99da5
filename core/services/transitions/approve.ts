import { sql } from "kysely";
import { findCacheObstacle } from "../../db/evaluation-waiting.ts";
import { DomainError } from "../../errors.ts";
import { type TransitionDeps, transition } from "./deps.ts";

/**
 * Lets an evaluation begin that waits for a member to look at it; it may have to wait for something else then. The
 * member vouches for it: it is trusted from now on. Throws `not_found`, or `conflict` when it waits for no approval.
 */
export async function approveEvaluation(deps: TransitionDeps, evaluationId: string): Promise<void> {
  await transition(deps, async (trx, wakeups) => {
    const { rows } = await sql<{ organization_id: string; kind: string | null }>`
      select organization_id, waiting_reason ->> 'kind' as kind from evaluation
      where id = ${evaluationId} for no key update`.execute(trx);
    const [evaluation] = rows;
    if (!evaluation) throw new DomainError("not_found", "no such evaluation");
    if (evaluation.kind !== "approval") throw new DomainError("conflict", "the evaluation does not wait for approval");
    const obstacle = await findCacheObstacle(trx, evaluation.organization_id);
    const reason = obstacle === null ? null : JSON.stringify({ kind: obstacle });
    await sql`
      update evaluation set status = ${obstacle === null ? 0 : 4}, waiting_reason = ${reason}::jsonb, trusted = true,
        updated_at = gradient_now()
      where id = ${evaluationId}`.execute(trx);
    wakeups.work(evaluation.organization_id);
    wakeups.evaluations([evaluationId]);
  });
}
