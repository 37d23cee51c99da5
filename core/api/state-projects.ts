import * as v from "valibot";
import { CONCURRENCY, SOAK_SECONDS_MAX } from "./projects.ts";
import {
  creator,
  descriptionWords,
  displayWords,
  exact,
  flag,
  hasSecret,
  listOf,
  NOT_A_SET,
  nameWords,
  oneOf,
  optional,
  secretPath,
  wholeNumberOf,
  words,
} from "./state-fields.ts";
import { TRIGGER_TYPES } from "./triggers.ts";

const YEAR_SECONDS = 31_536_000;
const WILDCARD_DEFAULT = "packages.x86_64-linux.*";
const PULL_REQUEST_ACTIONS = ["opened", "synchronize", "reopened"];
const ACTION_TYPES = ["send_mail", "send_web_request", "forge_status_report", "open_pr"] as const;
/** Names that JavaScript keeps for itself: a map that is read would lose them without a word. */
const LOST_NAMES = ["__proto__", "constructor", "prototype"];

const globs = listOf(words(255));

const polling = exact({
  type: v.literal("polling"),
  integration: v.nullish(v.never("is not for triggers of this type")),
  config: v.nullish(
    exact({ interval_secs: v.nullish(wholeNumberOf(10, YEAR_SECONDS), 300), branch: optional(words(255)) }),
    {},
  ),
  active: flag(true),
});
const reporterPush = exact({
  type: v.literal("reporter_push"),
  integration: nameWords,
  config: v.nullish(exact({ branches: globs, tags: globs, releases_only: flag(false) }), {
    branches: [],
    tags: [],
    releases_only: false,
  }),
  active: flag(true),
});
const reporterPullRequest = exact({
  type: v.literal("reporter_pull_request"),
  integration: nameWords,
  config: v.nullish(
    exact({
      branches: globs,
      actions: v.nullish(v.array(words(64), "must be a list"), PULL_REQUEST_ACTIONS),
      require_approval: flag(true),
    }),
    { branches: [], actions: PULL_REQUEST_ACTIONS, require_approval: true },
  ),
  active: flag(true),
});
const time = exact({
  type: v.literal("time"),
  integration: v.nullish(v.never("is not for triggers of this type")),
  config: exact({ cron: words(256) }),
  active: flag(true),
});

const triggerEntry = v.variant("type", [polling, reporterPush, reporterPullRequest, time], ({ expected }) =>
  expected === "Object" ? NOT_A_SET : `must be one of ${TRIGGER_TYPES.join(", ")}`,
);
export type StateTrigger = v.InferOutput<typeof triggerEntry>;

const actionHead = { name: words(255), active: flag(true) };
const noEvents = v.nullish(
  v.pipe(v.array(v.unknown(), "must be a list"), v.length(0, "must be empty: this type of action has no events")),
  () => [],
);
const events = listOf(words(64));

const actionEntry = v.variant(
  "type",
  [
    exact({
      ...actionHead,
      type: v.literal("send_mail"),
      config: exact({
        recipients: v.pipe(v.array(words(254), "must be a list"), v.minLength(1, "is empty: name whom to write to")),
        subject_template: optional(words(1_000)),
      }),
      events,
    }),
    exact({
      ...actionHead,
      type: v.literal("send_web_request"),
      config: exact({ url: words(2_000), token_file: secretPath, has_token_file: hasSecret }),
      events,
    }),
    exact({
      ...actionHead,
      type: v.literal("forge_status_report"),
      config: exact({ integration: nameWords }),
      events: noEvents,
    }),
    exact({
      ...actionHead,
      type: v.literal("open_pr"),
      config: exact({
        integration: nameWords,
        generator: v.nullish(oneOf(["flake_lock"]), "flake_lock"),
        granularity: v.nullish(oneOf(["per_run", "per_input"]), "per_run"),
        verify_gate: v.nullish(oneOf(["build", "eval", "none"]), "build"),
        branch_pattern: v.nullish(words(255), "gradient/flake-lock-update"),
        title_template: optional(words(1_000)),
        body_template: optional(words(10_000)),
        update_existing: flag(true),
      }),
      events: noEvents,
    }),
  ],
  ({ expected }) => (expected === "Object" ? NOT_A_SET : `must be one of ${ACTION_TYPES.join(", ")}`),
);
export type StateAction = v.InferOutput<typeof actionEntry>;

/** One of the two: another address, or the newest state of what the flake names. */
const overrideEntry = exact({ url: optional(words(2_000)), keep_url: flag(false) });

const overrides = v.pipe(
  v.unknown(),
  v.check((value) => typeof value === "object" && value !== null && !Array.isArray(value), NOT_A_SET),
  v.check(
    (value) => Object.keys(value as object).every((name) => !LOST_NAMES.includes(name)),
    `cannot hold an input called ${LOST_NAMES.join(", ")}`,
  ),
  v.record(v.string(), overrideEntry),
);

export const projectEntry = exact({
  name: optional(nameWords),
  organization: nameWords,
  display_name: displayWords,
  description: descriptionWords,
  repository: words(2_000),
  wildcard: optional(words(16_384)),
  /** Another name of `wildcard`. */
  evaluation_wildcard: optional(words(16_384)),
  active: flag(true),
  sign_cache: flag(true),
  keep_evaluations: optional(wholeNumberOf(1, 1_000_000)),
  concurrency: v.nullish(oneOf(CONCURRENCY), "soft_abort"),
  /** Null: the one that the triggers name, else the repository's default. */
  deploy_branch: optional(words(255)),
  deploy_hold: flag(true),
  deploy_wave_percent: v.nullish(wholeNumberOf(1, 100), 100),
  deploy_soak_seconds: v.nullish(wholeNumberOf(0, SOAK_SECONDS_MAX), 0),
  /** Null leaves those that there are alone. */
  triggers: optional(
    v.pipe(
      v.array(triggerEntry, "must be a list"),
      v.minLength(1, "is empty: leave it out to keep the triggers that the project has, or name at least one"),
      v.maxLength(64, "has more than the 64 entries that are allowed"),
    ),
  ),
  flake_input_overrides: v.nullish(overrides, () => ({})),
  actions: v.nullish(
    v.pipe(v.array(actionEntry, "must be a list"), v.maxLength(100, "has more than the 100 that are allowed")),
    () => [],
  ),
  created_by: creator,
});

/** What is evaluated where nothing is said. */
export function wildcardOf(
  entry: Pick<v.InferOutput<typeof projectEntry>, "wildcard" | "evaluation_wildcard">,
): string {
  return entry.wildcard ?? entry.evaluation_wildcard ?? WILDCARD_DEFAULT;
}
