import { MINUTE, SECOND } from "../lib/clock.ts";
import type { FailureClass } from "../protocol/worker-messages.ts";
import { AttemptReason, BuildStatus } from "./states.ts";

export interface RetryPolicy {
  /** Transient failures after which a build fails for good. */
  readonly attemptsMax: number;
  /** The pause before the second try; it doubles with each one. */
  readonly backoffMs: number;
}

export const DEFAULT_RETRY_POLICY: RetryPolicy = { attemptsMax: 3, backoffMs: 30 * SECOND };

const LOST_ATTEMPTS_MAX = 10;
/** Of those that were lost before they began, as many count as one. */
const IDLE_PER_ATTEMPT = 10;

/** Attempts at one thing that workers lost. */
export interface LostAttempts {
  readonly begun: number;
  /** Those that nobody saw begin: they stood behind others, whose fault it may be, or killed the worker at once. */
  readonly idle: number;
}

/**
 * Whether it is given up with `last`, which is counted in `lost`. An attempt that a worker lost does not count as a
 * failure, unless it happens ten times: then what was asked of the workers is what kills them. Every tenth time, so
 * that what is restarted after that has ten more.
 */
export function isLostTooOften(lost: LostAttempts, last: keyof LostAttempts): boolean {
  return timesGivenUp(lost) > timesGivenUp({ ...lost, [last]: lost[last] - 1 });
}

function timesGivenUp({ begun, idle }: LostAttempts): number {
  return Math.floor((begun * IDLE_PER_ATTEMPT + idle) / (LOST_ATTEMPTS_MAX * IDLE_PER_ATTEMPT));
}

/** `give_back`: the worker stopped it for reasons of its own; it is offered again as if it had not been given out. */
export type FailureDecision =
  | "give_back"
  | { readonly status: typeof BuildStatus.FailedTransient; readonly retryInMs: number }
  | { readonly status: typeof BuildStatus.FailedPermanent; readonly deterministic: boolean }
  | { readonly status: typeof BuildStatus.FailedTimeout };

const BACKOFF_MS_MAX: number = 60 * MINUTE;

/** How many pauses there are before the next try: some things pass sooner than others. */
const PAUSES = {
  transient: 1,
  inputs_unavailable: 1,
  // Builds beside it have to end, unless another worker is free.
  out_of_memory: 2,
  // Somebody has to make room, unless another worker is free.
  disk_full: 4,
} as const;

/** What a failed attempt does to its build, which has failed `transientFailures` times before. */
export function decideFailure(
  failure: FailureClass,
  transientFailures: number,
  { attemptsMax, backoffMs }: RetryPolicy,
): FailureDecision {
  switch (failure) {
    case "aborted":
      return "give_back";
    case "permanent":
      return { status: BuildStatus.FailedPermanent, deterministic: true };
    case "timeout":
    case "silent_timeout":
      return { status: BuildStatus.FailedTimeout };
    case "transient":
    case "inputs_unavailable":
    case "out_of_memory":
    case "disk_full":
      if (transientFailures + 1 >= attemptsMax) return { status: BuildStatus.FailedPermanent, deterministic: false };
      return {
        status: BuildStatus.FailedTransient,
        retryInMs: Math.min(PAUSES[failure] * backoffMs * 2 ** Math.min(transientFailures, 16), BACKOFF_MS_MAX),
      };
  }
}

/** The reason recorded with the attempt; null where the failure says no more than that it failed. */
export function attemptReason(failure: FailureClass): AttemptReason | null {
  switch (failure) {
    case "permanent":
      return AttemptReason.BuilderNonzero;
    case "timeout":
      return AttemptReason.WallClockTimeout;
    case "silent_timeout":
      return AttemptReason.SilentTimeout;
    case "inputs_unavailable":
      return AttemptReason.InputsUnavailable;
    case "out_of_memory":
      return AttemptReason.OutOfMemory;
    case "disk_full":
      return AttemptReason.DiskFull;
    case "transient":
    case "aborted":
      return null;
  }
}
