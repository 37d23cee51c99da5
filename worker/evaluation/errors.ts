/** Why a whole evaluation cannot go on. One attribute that fails is a message, never one of these. */
export type EvaluationErrorCode =
  | "repository_unreachable"
  | "repository_too_large"
  | "commit_not_found"
  | "flake_missing"
  | "flake_broken"
  | "local_source_refused"
  | "too_many_attributes"
  | "too_many_derivations"
  | "derivation_unreadable"
  | "derivation_unsupported"
  | "evaluator_unusable"
  | "timed_out"
  | "aborted";

/** The message goes to the people of the project: what was wrong and what to do. It carries no credentials. */
export class EvaluationError extends Error {
  override readonly name = "EvaluationError";
  readonly code: EvaluationErrorCode;

  constructor(code: EvaluationErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A derivation is sound, and of a kind that is not built: what needs it fails, and nothing else. */
export function isUnsupported(error: unknown): error is EvaluationError {
  return error instanceof EvaluationError && error.code === "derivation_unsupported";
}

/** Throws when the evaluation was called off. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new EvaluationError("aborted", "the evaluation was aborted");
}

export function timedOut(): EvaluationError {
  return new EvaluationError("timed_out", "the evaluation did not finish in the time it was given");
}
