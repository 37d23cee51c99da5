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

/** As the API shows them: what waits for dependencies counts as queued. */
export type BuildStatusView = Exclude<BuildStatusName, "Created">;
export type EvaluationStatusView = EvaluationStatusName;
