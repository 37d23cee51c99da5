import type { FailureGraph } from "./failure-graph.ts";

export interface BuildCount {
  readonly status: number;
  readonly count: number;
}

/** What was asked for, and what its build came to. */
export interface AttributeFact {
  readonly attribute: readonly string[];
  readonly build_id: string;
  readonly status: number;
}

export interface ErrorFact {
  readonly attribute: readonly string[] | null;
  readonly message: string;
  readonly source: string;
}

/** A build that failed itself. */
export interface CauseFact {
  readonly id: string;
  /** Null where the evaluation does not have it among its builds. */
  readonly link_id: string | null;
  readonly drv_path: string;
  readonly name: string;
  readonly system: string;
  readonly status: number;
  readonly attempt_id: string | null;
  readonly message: string | null;
  readonly finished_at: Date | null;
  /** Its attempt began before the evaluation was created. */
  readonly earlier: boolean;
}

export interface VerdictFacts {
  readonly evaluation: { readonly id: string; readonly status: number };
  /** What it is compared with. */
  readonly base: {
    readonly id: string;
    readonly commit: string;
    readonly redAttributes: readonly (readonly string[])[];
    readonly failed: readonly { readonly name: string; readonly system: string }[];
  } | null;
  readonly builds: readonly BuildCount[];
  readonly attributes: readonly AttributeFact[];
  readonly errors: readonly ErrorFact[];
  /** Null: it is larger than what is looked through. */
  readonly graph: FailureGraph | null;
  readonly causes: readonly CauseFact[];
  /** One of the lists is not whole. */
  readonly cut: boolean;
}
