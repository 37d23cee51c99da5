import type { BuildStatusName } from "./status.ts";

/** Lists in a verdict are never longer; how many there are in all stands beside each. */
export const VERDICT_FAILURES_MAX = 100;
export const VERDICT_ERRORS_MAX = 200;
export const VERDICT_ATTRIBUTES_MAX = 100;

/** Against the evaluation that a verdict compares with: null where there is none. */
export type Standing = "new" | "red_before" | null;

/**
 * `GET /evals/{evaluation}/verdict`: why it is red, as it was when the evaluation ended. While it goes on, as far as
 * that is known.
 */
export interface VerdictView {
  readonly evaluation: string;
  readonly result: "running" | "green" | "red" | "aborted";
  /** It does not change any more. */
  readonly final: boolean;
  /** One or two sentences for people. */
  readonly summary: string;
  /**
   * The last evaluation before it of another commit that ended as completed or failed; its commit and id are kept when
   * it is removed.
   */
  readonly compared_with: { readonly evaluation: string; readonly commit: string } | null;
  readonly attributes: VerdictAttributeCounts;
  readonly builds: VerdictBuildCounts;
  /** The builds that failed themselves; those that take down most attributes, and new ones, first. */
  readonly failures: readonly VerdictFailure[];
  readonly failures_total: number;
  /** What did not evaluate. */
  readonly errors: readonly VerdictError[];
  readonly errors_total: number;
  /** Attributes that were red in the evaluation that it is compared with and are built now. */
  readonly fixed: readonly string[];
  readonly fixed_total: number;
  /** There was more than is looked through: a failure may take down attributes that it does not name. */
  readonly truncated: boolean;
}

export interface VerdictAttributeCounts {
  readonly total: number;
  readonly green: number;
  /** Those that did not evaluate are among them. */
  readonly red: number;
  /** Neither: open, or given up with an aborted evaluation. */
  readonly other: number;
  /** Of the red ones; null where there is nothing to compare with. */
  readonly new_here: number | null;
  readonly red_before: number | null;
}

export interface VerdictBuildCounts {
  readonly completed: number;
  readonly substituted: number;
  readonly failed: number;
  readonly dependency_failed: number;
  readonly aborted: number;
  readonly open: number;
}

export interface VerdictFailure {
  /** Null for a build that lies below those of the evaluation and that an earlier one failed at. */
  readonly build: string | null;
  /** Without the store folder. */
  readonly derivation: string;
  readonly name: string;
  readonly architecture: string;
  readonly status: BuildStatusName;
  readonly standing: Standing;
  /** What the worker said. */
  readonly message: string | null;
  /** The phase of the builder in which it failed, where the log names phases. */
  readonly phase: string | null;
  /** The last lines of that phase that tell of errors, else its last lines. */
  readonly lines: readonly DecisiveLine[];
  readonly failed_at: string | null;
  /** It failed before this evaluation began, and was not tried again. */
  readonly earlier: boolean;
  readonly attributes: readonly VerdictAttribute[];
  readonly attributes_total: number;
}

export interface DecisiveLine {
  /** In the log; counts from 1. */
  readonly number: number;
  readonly text: string;
}

export interface VerdictAttribute {
  readonly attribute: string;
  readonly standing: Standing;
}

export interface VerdictError {
  /** Null for an error of the whole evaluation. */
  readonly attribute: string | null;
  readonly message: string;
  readonly source: string;
  readonly standing: Standing;
}
