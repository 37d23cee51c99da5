import { S3ServiceException } from "@aws-sdk/client-s3";
import { DomainError } from "#core/errors.ts";

/** What S3 answered, where it did. */
function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

export function isAbsent(error: unknown): boolean {
  // A bucket that is missing is a fault of the configuration and no absent object.
  return statusOf(error) === 404 && (error as S3ServiceException).name !== "NoSuchBucket";
}

/** `If-Match` or `If-None-Match` did not hold, or somebody else is just writing. */
export function isConditionFailed(error: unknown): boolean {
  const status = statusOf(error);
  return status === 412 || (status === 409 && (error as S3ServiceException).name === "ConditionalRequestConflict");
}

/** Whether the client had sent the request before, without seeing an answer that was one. */
export function wasTriedAgain(error: unknown): boolean {
  const { cause } = error as Error;
  return cause instanceof S3ServiceException && (cause.$metadata.attempts ?? 1) > 1;
}

/** The server knows no conditional writes. */
export function isNotImplemented(error: unknown): boolean {
  return statusOf(error) === 501;
}

export function alreadyExists(cause?: unknown): DomainError {
  return new DomainError("already_exists", "an object with this key exists", { cause });
}

/** In words for the client; the cause is for the log. */
export function storageFailure(cause: unknown): DomainError {
  if (cause instanceof DomainError) return cause;
  const status = statusOf(cause);
  const isFull = status === 507 || (cause instanceof S3ServiceException && cause.name === "QuotaExceeded");
  const words = isFull ? "the server's storage is full" : "the server's storage does not answer as it should";
  return new DomainError("service_unavailable", `${words}: try again later`, { cause });
}
