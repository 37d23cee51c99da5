/** A build as an evaluation sees it. What still waits for its dependencies shows as Queued. */
export type BuildStatusView =
  | "Queued"
  | "Building"
  | "Completed"
  | "FailedPermanent"
  | "Aborted"
  | "DependencyFailed"
  | "Substituted"
  | "FailedTransient"
  | "FailedTimeout";

export type EvaluationStatusView =
  | "Queued"
  | "EvaluatingFlake"
  | "EvaluatingDerivation"
  | "Building"
  | "Waiting"
  | "Completed"
  | "Failed"
  | "Aborted"
  | "Fetching";
