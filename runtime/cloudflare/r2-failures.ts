import { DomainError } from "#core/errors.ts";
import type { R2Condition } from "./bindings.ts";

/** What is written under this condition replaces nothing. */
export const NOTHING_THERE: R2Condition = { etagDoesNotMatch: "*" };

export function alreadyExists(): DomainError {
  return new DomainError("already_exists", "an object with this key exists");
}

/** In words for the client; the cause is for the log. */
export function storageFailure(cause: unknown): DomainError {
  if (cause instanceof DomainError) return cause;
  const message = "the server's storage does not answer as it should: try again later";
  return new DomainError("service_unavailable", message, { cause });
}
