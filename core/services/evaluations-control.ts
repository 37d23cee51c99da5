import { abortEvaluation } from "./transitions/abort.ts";
import { abortBuild, type BuildAbort } from "./transitions/abort-build.ts";
import { approveEvaluation } from "./transitions/approve.ts";
import type { TransitionDeps } from "./transitions/deps.ts";
import { prioritizeBuild, prioritizeEvaluation } from "./transitions/prioritize.ts";
import { restartBuild, restartFailed } from "./transitions/restart.ts";

/** What the state machine does to evaluations and builds when people ask for it. Builds are named by their links. */
export interface EvaluationControl {
  /** Ends an active evaluation and tells the workers. Throws `conflict` when it has ended. */
  abort(evaluationId: string): Promise<void>;
  /**
   * Lets the failed builds of an ended evaluation run again, in a new evaluation of the same commit, whose id it
   * answers. Throws `bad_request` when nothing failed.
   */
  restartFailed(evaluationId: string, startedBy: string | null): Promise<string>;
  /** Lets an evaluation begin that waits for a member's approval. Throws `conflict` when it does not. */
  approve(evaluationId: string): Promise<void>;
  /** From -10 to 10. Throws `conflict` when the evaluation has ended. */
  prioritize(evaluationId: string, priority: number): Promise<void>;
  /** Throws `conflict` when the build has ended. */
  abortBuild(linkId: string): Promise<BuildAbort>;
  /** Answers the evaluation that waits for it now. Throws `bad_request` when it has not failed. */
  restartBuild(linkId: string, startedBy: string | null): Promise<string>;
  /** From -10 to 10. Throws `conflict` when the build has ended. */
  prioritizeBuild(linkId: string, priority: number): Promise<void>;
}

export function createEvaluationControl(deps: TransitionDeps): EvaluationControl {
  return {
    abort: (id) => abortEvaluation(deps, id),
    restartFailed: (id, startedBy) => restartFailed(deps, id, startedBy),
    approve: (id) => approveEvaluation(deps, id),
    prioritize: (id, priority) => prioritizeEvaluation(deps, id, priority),
    abortBuild: (linkId) => abortBuild(deps, linkId),
    restartBuild: (linkId, startedBy) => restartBuild(deps, linkId, startedBy),
    prioritizeBuild: (linkId, priority) => prioritizeBuild(deps, linkId, priority),
  };
}
