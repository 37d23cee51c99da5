import type { BuildStatusName, EvaluationStatusName } from "./status.ts";

/** Lists in a comparison are never longer; the number of all stands beside each. */
export const COMPARED_MAX = 1_000;
export const COMPARED_PACKAGES_MAX = 500;

/** `GET /evals/{evaluation}/compare/{other}`: what is otherwise in `evaluation` than it was in `other`. */
export interface CompareView {
  /** The other one. */
  readonly before: ComparedEvaluation;
  readonly after: ComparedEvaluation;
  readonly added: ComparedList<ComparedAttribute>;
  readonly removed: ComparedList<ComparedAttribute>;
  /** Built before, and failed, or not evaluated, now. */
  readonly newly_failing: ComparedList<ComparedAttribute>;
  readonly fixed: ComparedList<ComparedAttribute>;
  readonly still_failing: ComparedList<ComparedAttribute>;
  /** Another derivation, and neither failed. */
  readonly changed: ComparedList<ComparedAttribute>;
  readonly unchanged_total: number;
  /** Packages in what it takes to run the entry points that were built, where the versions are not the same. */
  readonly packages: ComparedList<ComparedPackage>;
  /** Inputs whose revision is not the same; null where one of them has no record of its inputs. */
  readonly inputs: readonly ComparedInput[] | null;
  /** Something was too large to be looked through whole. */
  readonly truncated: boolean;
}

export interface ComparedEvaluation {
  readonly evaluation: string;
  readonly project: string;
  readonly commit: string;
  readonly status: EvaluationStatusName;
  readonly created_at: string;
  readonly attributes: number;
  /** What it takes to run all of what was built, in bytes. */
  readonly closure_size: number;
}

export interface ComparedList<T> {
  readonly total: number;
  readonly items: readonly T[];
}

export interface ComparedAttribute {
  readonly attribute: string;
  readonly before: ComparedSide | null;
  readonly after: ComparedSide | null;
}

export interface ComparedSide {
  /** Null for what did not evaluate. */
  readonly build: string | null;
  readonly status: BuildStatusName | "EvaluationError";
  /** Without the store folder. */
  readonly derivation: string | null;
  readonly name: string | null;
  readonly version: string | null;
  /** What it takes to run it, in bytes; null for what was not built, and beyond the first ones. */
  readonly closure_size: number | null;
}

export interface ComparedPackage {
  readonly name: string;
  /** Sorted; none where it was not there. */
  readonly before: readonly string[];
  readonly after: readonly string[];
}

export interface ComparedInput {
  readonly name: string;
  readonly before: ComparedRevision | null;
  readonly after: ComparedRevision | null;
}

export interface ComparedRevision {
  /** What is locked, without its revision. */
  readonly source: string;
  readonly revision: string | null;
  readonly last_modified: string | null;
}
