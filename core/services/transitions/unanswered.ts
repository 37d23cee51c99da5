import { listUnanswered, type UnansweredAttempt } from "../../db/unanswered.ts";
import { derivedUuid } from "../../lib/ids.ts";
import { endBuild } from "./build-end.ts";
import type { TransitionDeps } from "./deps.ts";
import { endEvaluationAttempt } from "./evaluation-progress.ts";

const BATCH = 100;

/**
 * Ends attempts whose workers are lively but have not ended them although their time was over long ago. A build that
 * was never begun is tried again elsewhere; one that was begun has timed out. To be called every few seconds.
 */
export async function endUnanswered(deps: TransitionDeps): Promise<void> {
  for (const attempt of await listUnanswered(deps.db, BATCH)) {
    const { id, worker_id: worker } = attempt;
    const ended = await (attempt.build_id === null ? endEvaluation(deps, attempt) : endOneBuild(deps, attempt));
    if (!ended) continue;
    deps.log.warn("a worker did not end a job in its time", { attempt: id, worker });
    deps.notifier.notify("abort", id);
  }
}

async function endOneBuild(deps: TransitionDeps, { id, started, minutes }: UnansweredAttempt): Promise<boolean> {
  const failure = started
    ? ({ class: "timeout", message: `the worker did not end it within ${minutes} minutes` } as const)
    : ({ class: "transient", message: `the worker did not begin it within ${minutes} minutes` } as const);
  return await endBuild(deps, id, {
    kind: "build",
    status: "failed",
    outputs: [],
    failure: { ...failure, missing: [] },
    build_ms: 0,
  });
}

async function endEvaluation(deps: TransitionDeps, { id, minutes }: UnansweredAttempt): Promise<boolean> {
  const message = `the worker did not end the evaluation within ${minutes} minutes`;
  const result = { kind: "evaluation", status: "failed", failure: { class: "timeout", message } } as const;
  return await endEvaluationAttempt(deps, id, result, await derivedUuid(id, "unanswered"));
}
