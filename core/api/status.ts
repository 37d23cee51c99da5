/** Names of states, as the API writes them. `core/domain/states.ts` says what each means. */
export type EvaluationStatusName =
  | "Queued"
  | "EvaluatingFlake"
  | "EvaluatingDerivation"
  | "Building"
  | "Waiting"
  | "Completed"
  | "Failed"
  | "Aborted"
  | "Fetching";

export type BuildStatusName =
  | "Created"
  | "Queued"
  | "Building"
  | "Completed"
  | "FailedPermanent"
  | "Aborted"
  | "DependencyFailed"
  | "Substituted"
  | "FailedTransient"
  | "FailedTimeout";
