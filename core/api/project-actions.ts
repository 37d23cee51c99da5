import * as v from "valibot";
import { queryNumber } from "./evaluation-queries.ts";
import { secretText, text } from "./text.ts";

/** By the numbers that the database holds. The last two need forges, and are not there yet. */
export const ACTION_TYPES = ["send_mail", "send_web_request", "forge_status_report", "open_pr"] as const;
export type ActionTypeName = (typeof ACTION_TYPES)[number];

export const BUILD_EVENTS = [
  "build.created",
  "build.queued",
  "build.started",
  "build.completed",
  "build.failed",
  "build.substituted",
] as const;
export type BuildEvent = (typeof BUILD_EVENTS)[number];
export const ACTION_EVENTS = [
  ...BUILD_EVENTS,
  "evaluation.queued",
  "evaluation.started",
  "evaluation.building",
  "evaluation.completed",
  "evaluation.failed",
  "evaluation.aborted",
  "evaluation.action_required",
  "evaluation.approval_granted",
] as const;

const RECIPIENTS_MAX = 20;
const NAME_LENGTH_MAX = 255;

const name = v.pipe(
  text(NAME_LENGTH_MAX),
  v.check((value) => value.trim() !== "", "is empty"),
);
const events = v.pipe(
  v.array(v.picklist(ACTION_EVENTS, `must be one of ${ACTION_EVENTS.join(", ")}`)),
  v.maxLength(ACTION_EVENTS.length, "names an event twice"),
);

/** `{org}`, `{project}`, `{event}`, `{status}`, `{id}` and `{link}` in the template stand for what they say. */
const sendMail = v.object({
  type: v.literal("send_mail"),
  recipients: v.pipe(v.array(text(254)), v.maxLength(RECIPIENTS_MAX, `names more than ${RECIPIENTS_MAX} addresses`)),
  subject_template: v.optional(v.nullable(text(500)), null),
});

/** Without a token a new action gets one, and an existing one keeps its own. */
const sendWebRequest = v.object({
  type: v.literal("send_web_request"),
  url: text(2_000),
  token: v.optional(v.nullable(secretText), null),
});

const ActionConfig = v.variant("type", [sendMail, sendWebRequest]);
export type ActionConfig = v.InferOutput<typeof ActionConfig>;

/** `POST /projects/{organization}/{project}/actions`. */
export const CreateActionBody = v.object({
  name,
  config: ActionConfig,
  events: v.optional(events, []),
  active: v.optional(v.boolean(), true),
});
export type CreateActionBody = v.InferOutput<typeof CreateActionBody>;

/** What is absent stays; a `config` replaces the whole one, and cannot be of another type. */
export const ChangeActionBody = v.object({
  name: v.optional(name),
  config: v.optional(ActionConfig),
  events: v.optional(events),
  active: v.optional(v.boolean()),
});
export type ChangeActionBody = v.InferOutput<typeof ChangeActionBody>;

/** `GET .../actions/{action}/deliveries`; at most 200. */
export const DeliveriesQuery = v.object({ limit: v.optional(queryNumber), offset: v.optional(queryNumber) });

export interface ActionView {
  readonly id: string;
  readonly name: string;
  readonly action_type: ActionTypeName;
  /** Without the token. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly events: readonly string[];
  readonly active: boolean;
  readonly last_fired_at: string | null;
  readonly created_by: string | null;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface CreatedAction {
  readonly action: ActionView;
  /** Shown once: what each web request says as `Authorization: Bearer`. */
  readonly token?: string;
}

export interface DeliveryView {
  readonly id: string;
  readonly event: string;
  readonly success: boolean;
  readonly response_status: number | null;
  readonly error_message: string | null;
  readonly duration_ms: number | null;
  readonly delivered_at: string;
}

export interface DeliveryDetail extends DeliveryView {
  readonly request_body: string;
  /** At most 64 KiB of it. */
  readonly response_body: string | null;
}
