import * as v from "valibot";
import { isUuid } from "../lib/ids.ts";
import { text, wholeNumber } from "./text.ts";

/** By the numbers that the database holds. */
export const TRIGGER_TYPES = ["polling", "reporter_push", "reporter_pull_request", "time"] as const;
export type TriggerTypeName = (typeof TRIGGER_TYPES)[number];

const YEAR_SECONDS = 31_536_000;
const LIST_LENGTH_MAX = 100;

const branch = text(255);
const globs = v.optional(v.pipe(v.array(text(255)), v.maxLength(LIST_LENGTH_MAX)), []);
const integrationId = v.pipe(
  v.string(),
  v.transform((id) => id.toLowerCase()),
  v.check(isUuid, "must be a UUID"),
);
const PULL_REQUEST_ACTIONS = ["opened", "synchronize", "reopened"] as const;

/** Looks at the repository again and again; without a branch, at the one that its HEAD names. */
const polling = v.object({
  type: v.literal("polling"),
  interval_secs: v.optional(wholeNumber(10, YEAR_SECONDS), 300),
  branch: v.optional(v.nullable(branch), null),
});

/** A forge reports a push. Empty lists let all through; `*` in them stands for anything. */
const reporterPush = v.object({
  type: v.literal("reporter_push"),
  integration_id: integrationId,
  branches: globs,
  tags: globs,
  releases_only: v.optional(v.boolean(), false),
});

const reporterPullRequest = v.object({
  type: v.literal("reporter_pull_request"),
  integration_id: integrationId,
  branches: globs,
  actions: v.optional(v.pipe(v.array(text(64)), v.maxLength(LIST_LENGTH_MAX)), [...PULL_REQUEST_ACTIONS]),
  require_approval: v.optional(v.boolean(), true),
});

/** Six fields in UTC, seconds first: see `parseCron`. */
const time = v.object({ type: v.literal("time"), cron: text(256) });

export const TriggerConfig = v.variant(
  "type",
  [polling, reporterPush, reporterPullRequest, time],
  `must be one of ${TRIGGER_TYPES.join(", ")}`,
);
export type TriggerConfig = v.InferOutput<typeof TriggerConfig>;

/** `POST /projects/{organization}/{project}/triggers`. */
export const CreateTriggerBody = v.object({ config: TriggerConfig, active: v.optional(v.boolean(), true) });
export type CreateTriggerBody = v.InferOutput<typeof CreateTriggerBody>;

/** What is absent stays; a `config` replaces the whole one. */
export const ChangeTriggerBody = v.object({ config: v.optional(TriggerConfig), active: v.optional(v.boolean()) });
export type ChangeTriggerBody = v.InferOutput<typeof ChangeTriggerBody>;

export interface TriggerView {
  readonly id: string;
  readonly project: string;
  readonly type: TriggerTypeName;
  readonly config: TriggerConfig;
  readonly active: boolean;
  /** When it last began an evaluation. */
  readonly last_fired_at: string | null;
  readonly last_checked_at: string | null;
  /** When it is looked at next; null where a forge reports, and where it or its project is switched off. */
  readonly next_check_at: string | null;
  /** Why the repository could not be looked at, until it can be again. */
  readonly last_error: string | null;
  readonly created_at: string;
  readonly updated_at: string;
  readonly integration: TriggerIntegration | null;
}

export interface TriggerIntegration {
  readonly id: string;
  readonly name: string;
  readonly display_name: string;
  readonly forge_type: string;
}

/** Of an evaluation: what began it. */
export interface EvaluationTrigger {
  readonly id: string;
  readonly type: TriggerTypeName;
}

/** `POST .../triggers/{trigger}/test`. */
export type TriggerTest =
  | { readonly outcome: "Created"; readonly evaluation_id: string }
  | { readonly outcome: "SkippedSameCommit" }
  | { readonly outcome: "SkippedConcurrency" };
