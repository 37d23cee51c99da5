import * as v from "valibot";
import { queryId, queryNumber } from "./evaluation-queries.ts";
import type { BuildStatusName, EvaluationStatusName } from "./status.ts";
import { descriptionText, nameText, text, wholeNumber } from "./text.ts";
import type { EvaluationTrigger } from "./triggers.ts";

/** By the numbers that the database holds: what a new evaluation does about one of the project that goes on. */
export const CONCURRENCY = ["hard_abort", "soft_abort", "all", "skip"] as const;
export type Concurrency = (typeof CONCURRENCY)[number];

/** A month. */
export const SOAK_SECONDS_MAX = 2_592_000;

const repository = text(2_000);
const wildcard = text(16_384);
const concurrency = v.picklist(CONCURRENCY, `must be one of ${CONCURRENCY.join(", ")}`);
const branch = v.optional(v.nullable(text(255)));

/** `PUT /projects/{organization}`. */
export const CreateProjectBody = v.object({
  name: nameText,
  display_name: nameText,
  description: v.optional(descriptionText, ""),
  repository,
  wildcard,
  concurrency: v.optional(concurrency, "soft_abort"),
  sign_cache: v.optional(v.boolean(), true),
  /** Which branch hosts follow; null: the one that the triggers name, else the repository's default. */
  deploy_branch: branch,
});
export type CreateProjectBody = v.InferOutput<typeof CreateProjectBody>;

/** `PATCH /projects/{organization}/{project}`. What is absent stays. */
export const ChangeProjectBody = v.object({
  name: v.optional(nameText),
  display_name: v.optional(nameText),
  description: v.optional(descriptionText),
  repository: v.optional(repository),
  wildcard: v.optional(wildcard),
  keep_evaluations: v.optional(wholeNumber(1, 1_000_000)),
  concurrency: v.optional(concurrency),
  sign_cache: v.optional(v.boolean()),
  /** Which branch hosts follow; null: the one that the triggers name, else the repository's default. */
  deploy_branch: branch,
  /** A commit that failed on one host is kept from the others until somebody releases it. */
  deploy_hold: v.optional(v.boolean()),
  /** How many of the hosts get a new system at a time. */
  deploy_wave_percent: v.optional(wholeNumber(1, 100)),
  /** How long the hosts of a wave have to be healthy before the next one begins. */
  deploy_soak_seconds: v.optional(wholeNumber(0, SOAK_SECONDS_MAX)),
});
export type ChangeProjectBody = v.InferOutput<typeof ChangeProjectBody>;

/** `POST /projects/{organization}/{project}/transfer`: the organization that gets it. */
export const TransferProjectBody = v.object({ organization: nameText });
export type TransferProjectBody = v.InferOutput<typeof TransferProjectBody>;

/** `GET .../evaluations`; without a limit, as many as the project keeps. */
export const EvaluationsQuery = v.object({ limit: v.optional(queryNumber) });

/** `GET .../entry-points`; without an evaluation, the last one. */
export const EntryPointsQuery = v.object({ evaluation_id: v.optional(queryId) });

/** `POST /projects/{organization}/{project}/evaluate`. */
export const EvaluateBody = v.object({
  mode: v.optional(v.nullable(v.picklist(["restart_failed"], 'must be "restart_failed" or absent'))),
  /** What becomes of an evaluation that goes on; `project`: what the project says. Absent, the new one is refused. */
  concurrency: v.optional(v.picklist(["project", ...CONCURRENCY], `must be one of project, ${CONCURRENCY.join(", ")}`)),
  /** Absent: what the repository's HEAD points to. Not beside `restart_failed`, which is about the last evaluation. */
  branch,
});
export type EvaluateBody = v.InferOutput<typeof EvaluateBody>;

export interface ProjectView {
  readonly id: string;
  readonly organization: string;
  readonly name: string;
  readonly active: boolean;
  readonly display_name: string;
  readonly description: string;
  /** Credentials in it are shown to who may edit the project only. */
  readonly repository: string;
  readonly wildcard: string;
  readonly last_evaluation: string | null;
  readonly last_evaluation_status: EvaluationStatusName | null;
  readonly force_evaluation: boolean;
  readonly created_by: string | null;
  readonly created_at: string;
  readonly managed: boolean;
  readonly keep_evaluations: number;
  readonly concurrency: Concurrency;
  readonly sign_cache: boolean;
  /** Null: the one that the triggers name, else the repository's default. */
  readonly deploy_branch: string | null;
  readonly deploy_hold: boolean;
  readonly deploy_wave_percent: number;
  readonly deploy_soak_seconds: number;
  readonly can_edit: boolean;
  readonly can_trigger: boolean;
}

export interface ProjectDetails
  extends Pick<
    ProjectView,
    | "id"
    | "name"
    | "display_name"
    | "description"
    | "repository"
    | "wildcard"
    | "active"
    | "created_at"
    | "keep_evaluations"
    | "can_edit"
    | "can_trigger"
    | "managed"
  > {
  readonly last_check_at: string | null;
  readonly queue: { readonly building: number; readonly queued: number };
  readonly last_evaluations: readonly EvaluationSummary[];
}

export interface EvaluationSummary {
  readonly id: string;
  readonly commit: string;
  /** The first line, cut at 100 characters. */
  readonly commit_message: string;
  readonly status: EvaluationStatusName;
  readonly trigger: EvaluationTrigger | null;
  readonly triggered_by: string | null;
  /** Of the project's repository; null for what is of none. */
  readonly branch: string | null;
  readonly pr_number: null;
  /** Without those that were substituted or given up. */
  readonly total_builds: number;
  readonly builds: {
    readonly completed: number;
    readonly failed: number;
    readonly building: number;
    readonly queued: number;
    readonly substituted: number;
    readonly aborted: number;
  };
  readonly errors: number;
  readonly warnings: number;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface EntryPointView {
  readonly id: string;
  readonly build_id: string;
  readonly derivation_path: string;
  /** The attribute path. */
  readonly eval: string;
  readonly build_status: BuildStatusName;
  readonly has_artefacts: boolean;
  readonly architecture: string;
  readonly build_time_ms: number | null;
  /** What its build needs, directly or not, by status. Null where the graph is too large to count for a page. */
  readonly deps: Readonly<Partial<Record<BuildStatusName, number>>> | null;
  readonly deps_total: number | null;
  readonly created_at: string;
}
