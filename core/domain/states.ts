import type { BuildStatusName, EvaluationStatusName } from "../api/status.ts";

/** The numbers are those of the API and the database. */
export const EvaluationStatus = {
  Queued: 0,
  EvaluatingFlake: 1,
  EvaluatingDerivation: 2,
  Building: 3,
  Waiting: 4,
  Completed: 5,
  Failed: 6,
  Aborted: 7,
  Fetching: 8,
} as const satisfies Record<EvaluationStatusName, number>;
export type EvaluationStatus = (typeof EvaluationStatus)[keyof typeof EvaluationStatus];

/** `DrvRecovery` brings back how a vanished output is made: see `tendRecoveries`. */
export const EvaluationKind = { Normal: 0, InputUpdate: 1, DrvRecovery: 2 } as const;

/** Not ended. */
export const ACTIVE_EVALUATION: readonly EvaluationStatus[] = [0, 1, 2, 3, 4, 8];
/** A worker holds the lease of an evaluation in these. */
export const EVALUATING: readonly EvaluationStatus[] = [8, 1, 2];

export const BuildStatus = {
  /** Waits for dependencies. The API shows it as Queued. */
  Created: 0,
  /** Every dependency is available: a worker may take it. */
  Queued: 1,
  Building: 2,
  Completed: 3,
  FailedPermanent: 4,
  Aborted: 5,
  DependencyFailed: 6,
  Substituted: 7,
  /** Waits for its next try. */
  FailedTransient: 8,
  FailedTimeout: 9,
} as const satisfies Record<BuildStatusName, number>;
export type BuildStatus = (typeof BuildStatus)[keyof typeof BuildStatus];

/** Something may still happen to it by itself. */
export const OPEN_BUILD: readonly BuildStatus[] = [0, 1, 2, 8];
export const SUCCESSFUL_BUILD: readonly BuildStatus[] = [3, 7];
export const FAILED_BUILD: readonly BuildStatus[] = [4, 6, 9];

export const AttemptKind = { Evaluation: 0, Build: 1, Fetch: 2 } as const;
export const AttemptOutcome = { Running: 0, Built: 1, Substituted: 2, Failed: 3, Aborted: 4 } as const;
export type AttemptOutcome = (typeof AttemptOutcome)[keyof typeof AttemptOutcome];

/** Why an attempt failed. The protocol's failure classes map onto these in `core/domain/failure.ts`. */
export const AttemptReason = {
  SubstituteUnavailable: 0,
  OutOfMemory: 1,
  DiskFull: 2,
  Network: 3,
  BuilderCrash: 4,
  BuilderNonzero: 5,
  WallClockTimeout: 6,
  SilentTimeout: 7,
  InputsUnavailable: 8,
} as const;
export type AttemptReason = (typeof AttemptReason)[keyof typeof AttemptReason];

export const MessageLevel = { Error: 0, Warning: 1, Notice: 2 } as const;
export type MessageLevel = (typeof MessageLevel)[keyof typeof MessageLevel];

/** The name of a state, as the API writes it. Throws for a number that no state has: rows cannot hold one. */
export function evaluationStatusName(status: number): EvaluationStatusName {
  return nameOf(EvaluationStatus, status);
}

export function buildStatusName(status: number): BuildStatusName {
  return nameOf(BuildStatus, status);
}

function nameOf<K extends string>(table: Readonly<Record<K, number>>, value: number): K {
  for (const name in table) if (table[name] === value) return name;
  throw new RangeError(`no state has the number ${value}`);
}
