/** What builds need that no connected worker has. */
export interface UnmetNeed {
  readonly architecture: string;
  readonly required_features: readonly string[];
  readonly build_count: number;
}

/**
 * Why an evaluation does not go on, or why a part of it does not. The API shows it as it is.
 *
 * - `approval`: a member has to look at it first.
 * - `no_cache`, `cache_storage_full`: its builds would have nowhere to go.
 * - `draining`: an administrator has the instance give out nothing new.
 * - `eval_workers`: no connected worker of the organization evaluates, or fetches for one that does.
 * - `workers`: no connected worker of the organization has what these builds need.
 * - `recovery`: an output that its builds rest on has vanished, and how it is made was not recorded; another evaluation
 *   of the same commit finds out. `rounds_left`: how often more that may be tried.
 */
export type WaitingReason =
  | { readonly kind: "approval"; readonly pr_number: number | null; readonly pr_author: string | null }
  | { readonly kind: "no_cache" }
  | { readonly kind: "cache_storage_full" }
  | { readonly kind: "draining" }
  | { readonly kind: "eval_workers"; readonly capability: "fetch" | "eval"; readonly connected_workers: number }
  | {
      readonly kind: "workers";
      readonly unmet: readonly UnmetNeed[];
      readonly connected_workers: number;
      readonly available_architectures: readonly string[];
    }
  | { readonly kind: "recovery"; readonly evaluation: string; readonly rounds_left: number };

/** Reasons that the scheduler finds in the rows of the moment, and takes back by itself. */
export const SCHEDULER_REASONS: readonly WaitingReason["kind"][] = ["draining", "eval_workers", "workers"];
