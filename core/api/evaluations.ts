import * as v from "valibot";
import type { EstimateView } from "./estimates.ts";
import { queryId, queryNumber } from "./evaluation-queries.ts";
import type { BuildStatusName, EvaluationStatusName } from "./status.ts";
import type { EvaluationTrigger } from "./triggers.ts";

/** A list of builds is never longer, whatever limit is asked for. */
export const BUILDS_LIST_MAX = 10_000;

/** `GET /evals/{evaluation}/builds`; `scope` is a build of the evaluation: it and what it needs. */
export const BuildsQuery = v.object({
  limit: v.optional(v.pipe(queryNumber, v.toMaxValue(BUILDS_LIST_MAX))),
  offset: v.optional(queryNumber),
  scope: v.optional(queryId),
});
export type BuildsQuery = v.InferOutput<typeof BuildsQuery>;

export interface EvaluationView {
  readonly id: string;
  readonly project: string;
  readonly project_name: string;
  readonly project_display_name: string;
  /** Without credentials. */
  readonly repository: string;
  readonly commit: string;
  readonly wildcard: string;
  readonly status: EvaluationStatusName;
  /** Of the same project, in evaluation order. */
  readonly previous: string | null;
  readonly next: string | null;
  readonly created_at: string;
  readonly updated_at: string;
  readonly error_count: number;
  readonly warning_count: number;
  /** Why it failed. */
  readonly error: string | null;
  readonly entry_points: readonly EvaluationEntryPoint[];
  readonly trigger: EvaluationTrigger | null;
  readonly triggered_by: string | null;
  /** Of the project's repository; null for what is of none. */
  readonly branch: string | null;
  /** While it waits, or a part of it does. Where the status is not Waiting, other parts go on. */
  readonly waiting_reason?: EvaluationWaiting;
  /** How urgent it is, from -10 to 10. */
  readonly priority: number;
  /** When its builds will have ended; null while that is not known, and afterwards. */
  readonly eta: EstimateView | null;
}

/**
 * What an evaluation, or a part of it, waits for.
 *
 * - `approval`: a member has to look at it first.
 * - `no_cache`, `cache_storage_full`: its builds would have nowhere to go.
 * - `draining`: an administrator has the instance give out nothing new.
 * - `eval_workers`: no connected worker evaluates, or fetches for one that does.
 * - `workers`: no connected worker has what these builds need.
 * - `recovery`: another evaluation of the same commit finds out how something is made that has vanished.
 */
export type EvaluationWaiting =
  | { readonly kind: "approval"; readonly pr_number: number | null; readonly pr_author: string | null }
  | { readonly kind: "no_cache" }
  | { readonly kind: "cache_storage_full" }
  | { readonly kind: "draining" }
  | { readonly kind: "eval_workers"; readonly capability: "fetch" | "eval"; readonly connected_workers: number }
  | {
      readonly kind: "workers";
      readonly unmet: readonly {
        readonly architecture: string;
        readonly required_features: readonly string[];
        readonly build_count: number;
      }[];
      readonly connected_workers: number;
      readonly available_architectures: readonly string[];
    }
  | { readonly kind: "recovery"; readonly evaluation: string; readonly rounds_left: number };

export interface EvaluationEntryPoint {
  readonly id: string;
  /** The attribute path. */
  readonly eval: string;
  readonly build_status: BuildStatusName;
}

export interface EvaluationBuilds {
  readonly builds: readonly EvaluationBuildItem[];
  readonly total: number;
  /** Those to which something may still happen by itself. */
  readonly active_count: number;
}

export interface EvaluationBuildItem {
  readonly id: string;
  /** The derivation's path without the store's folder. */
  readonly name: string;
  readonly status: BuildStatusName;
  readonly has_artefacts: boolean;
  readonly updated_at: string;
  readonly build_time_ms: number | null;
}

export interface EvaluationMessage {
  readonly id: string;
  readonly level: "Error" | "Warning" | "Notice";
  readonly message: string;
  readonly source: string;
  readonly created_at: string;
  /** The attribute paths that it is about; none for the whole evaluation. */
  readonly entry_points: readonly string[];
}

/** `GET /evals/{evaluation}/live`. Frames say what changed; what they do not say is to be asked for again. */
export type EvaluationFrame =
  | {
      readonly type: "evaluation_status_changed";
      readonly project: string;
      readonly evaluation_id: string;
      readonly status: number;
    }
  | {
      readonly type: "build_status_changed";
      readonly evaluation_id: string;
      readonly build_id: string;
      readonly status: number;
    }
  | {
      readonly type: "evaluation_progress";
      readonly project: string;
      readonly evaluation_id: string;
      /** More changed than was told: what is shown of the evaluation is to be read anew. */
      readonly read_anew?: true;
    };
