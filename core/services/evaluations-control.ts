/** What the state machine does to evaluations when people ask for it. */
export interface EvaluationControl {
  /** Ends an active evaluation and tells the workers. Throws `conflict` when it has ended. */
  abort(evaluationId: string): Promise<void>;
  /**
   * Lets the failed builds of an ended evaluation run again, in a new evaluation of the same commit, whose id it
   * answers. Throws `bad_request` when nothing failed.
   */
  restartFailed(evaluationId: string, startedBy: string | null): Promise<string>;
}
