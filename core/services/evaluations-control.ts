/** What the state machine does to evaluations when people ask for it. */
export interface EvaluationControl {
  /** Ends an active evaluation and tells the workers. Throws `conflict` when it has ended. */
  abort(evaluationId: string): Promise<void>;
  /** Lets the failed builds of an ended evaluation run again; answers the ids of those it opened. */
  restartFailed(evaluationId: string): Promise<string[]>;
}
