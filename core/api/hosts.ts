import * as v from "valibot";
import { isUuid } from "../lib/ids.ts";
import { parseStorePath } from "../nix/store-path.ts";
import { printedText, text, wholeNumber } from "./text.ts";

/**
 * A host's whole name, as a regular expression without anchors that JavaScript, PostgreSQL and Nix read alike: what an
 * attribute of `nixosConfigurations` and a segment of an address can both be. The NixOS module and the agent have it.
 */
export const HOST_NAME_PATTERN = "[A-Za-z0-9_][A-Za-z0-9._@+-]{0,252}";

/** By the numbers that the database holds. */
export const DEPLOYMENT_MODES = ["switch", "boot", "test", "dry-activate"] as const;
export type DeploymentMode = (typeof DEPLOYMENT_MODES)[number];
export const DEPLOYMENT_STEPS = [
  "started",
  "downloading",
  "activating",
  "checking",
  "succeeded",
  "failed",
  "rolled_back",
  "unchanged",
] as const;
export type DeploymentStepName = (typeof DEPLOYMENT_STEPS)[number];
export const HOST_HEALTH = ["unknown", "healthy", "unhealthy"] as const;
export type HostHealth = (typeof HOST_HEALTH)[number];
export const DEPLOY_STATES = ["deploy", "none", "held", "waiting"] as const;
export type DeployState = (typeof DEPLOY_STATES)[number];

const SEQUENCE_MAX = 1_000_000;
const GENERATION_MAX = 2_147_483_647;
const UNITS_MAX = 100;

const uuid = v.pipe(
  v.string(),
  v.transform((id) => id.toLowerCase()),
  v.check(isUuid, "must be a UUID"),
);
const path = v.pipe(
  text(300),
  v.check((value) => parseStorePath(value) !== null, "must be a whole store path: /nix/store/<hash>-<name>"),
);
const optional = <T>(schema: v.GenericSchema<T>) => v.optional(v.nullable(schema), null);
const time = v.pipe(
  text(64),
  v.isoTimestamp("must be a time with a zone, as RFC 3339 writes it"),
  v.check((value) => !Number.isNaN(Date.parse(value)), "is no time"),
);

/** `POST /projects/{organization}/{project}/hosts/{host}/reports`: one step of a run of the agent, or none. */
export const HostReportBody = v.object({
  /** The same for all steps of a run. */
  run_id: uuid,
  /** Grows within the run; a report of the same run and sequence is taken once. */
  sequence: wholeNumber(0, SEQUENCE_MAX),
  step: v.picklist(DEPLOYMENT_STEPS, `must be one of ${DEPLOYMENT_STEPS.join(", ")}`),
  mode: v.picklist(DEPLOYMENT_MODES, `must be one of ${DEPLOYMENT_MODES.join(", ")}`),
  /** What was wanted. */
  build_id: optional(uuid),
  store_path: optional(path),
  running_path: optional(path),
  booted_path: optional(path),
  generation: optional(wholeNumber(0, GENERATION_MAX)),
  health: v.optional(v.picklist(HOST_HEALTH, `must be one of ${HOST_HEALTH.join(", ")}`), "unknown"),
  reason: optional(printedText(4_096)),
  failed_units: v.optional(v.pipe(v.array(printedText(256)), v.maxLength(UNITS_MAX)), []),
  exit_code: optional(wholeNumber(-1_000, 1_000)),
  agent_version: v.optional(printedText(100), ""),
  happened_at: time,
});
export type HostReportBody = v.InferOutput<typeof HostReportBody>;

/** False: it was known, and changed nothing. */
export interface HostReportAnswer {
  readonly accepted: boolean;
}

const WAIT_SECONDS_MAX = 60;
const waitSeconds = v.pipe(
  v.string(),
  v.regex(/^\d{1,3}$/, "must be a whole number of seconds"),
  v.transform(Number),
  v.maxValue(WAIT_SECONDS_MAX, `must be at most ${WAIT_SECONDS_MAX}`),
);

/** `GET .../wanted`: with what was seen last, the answer waits until that changes. */
export const WantedQuery = v.object({
  wait: v.optional(waitSeconds),
  seen: v.optional(v.union([v.literal("none"), uuid], "must be a build's id, or none")),
  seen_state: v.optional(v.picklist(DEPLOY_STATES, `must be one of ${DEPLOY_STATES.join(", ")}`)),
});
export type WantedQuery = v.InferOutput<typeof WantedQuery>;

/** `POST .../deployments/{build}/hold`. */
export const HoldBody = v.object({ reason: v.optional(v.nullable(text(1_000)), null) });
export type HoldBody = v.InferOutput<typeof HoldBody>;

/** A system that was built for a host. */
export interface WantedBuild {
  readonly evaluation_id: string;
  readonly build_id: string;
  /** The evaluation's place in their order: what is newer has a larger one. */
  readonly order: number;
  readonly attribute: string;
  readonly store_path: string;
  readonly commit: string;
  /** Its first line. */
  readonly commit_message: string;
  readonly branch: string | null;
  readonly finished_at: string;
  /** Of all that it takes to run it, unpacked, in bytes; null where that is not known. */
  readonly nar_size: number | null;
}

export interface DeployCache {
  readonly name: string;
  readonly url: string;
  readonly public_keys: readonly string[];
  /** It wants credentials. */
  readonly private: boolean;
  readonly priority: number;
}

/** `GET /projects/{organization}/{project}/hosts/{host}/wanted`: what the host is to run. */
export interface WantedView {
  readonly host: string;
  /** `organization/project`. */
  readonly project: string;
  /** That hosts of the project follow; null: it is not known. */
  readonly branch: string | null;
  readonly state: DeployState;
  /** For people: why it gets nothing. */
  readonly reason: string | null;
  readonly build: WantedBuild | null;
  /** Those that the reader may read, the best first. */
  readonly caches: readonly DeployCache[];
  /** Whether what happens there may be reported with these credentials. */
  readonly can_report: boolean;
}

/** One run of the agent. */
export interface DeploymentView {
  readonly id: string;
  readonly mode: DeploymentMode;
  /** The newest one. */
  readonly step: DeploymentStepName;
  readonly health: HostHealth;
  readonly reason: string | null;
  readonly failed_units: readonly string[];
  readonly exit_code: number | null;
  readonly agent_version: string;
  readonly generation: number | null;
  readonly store_path: string | null;
  readonly build_id: string | null;
  readonly evaluation_id: string | null;
  readonly order: number | null;
  readonly commit: string | null;
  readonly commit_message: string | null;
  readonly branch: string | null;
  readonly started_at: string;
  readonly updated_at: string;
  readonly ended_at: string | null;
  readonly steps: readonly {
    readonly sequence: number;
    readonly step: DeploymentStepName;
    readonly happened_at: string;
  }[];
}

/** What a host runs. Where it was built is null for what this server did not build, or has forgotten. */
export interface PresentSystem {
  readonly store_path: string;
  readonly since: string | null;
  readonly build_id: string | null;
  readonly evaluation_id: string | null;
  readonly order: number | null;
  readonly commit: string | null;
  readonly commit_message: string | null;
  readonly branch: string | null;
}

export interface HostView {
  readonly host: string;
  readonly project: string;
  /** It has told of itself; otherwise the flake names it. */
  readonly known: boolean;
  readonly branch: string | null;
  readonly state: DeployState;
  readonly reason: string | null;
  readonly wanted: WantedBuild | null;
  /** Null while either is not known. */
  readonly up_to_date: boolean | null;
  readonly present: PresentSystem | null;
  readonly booted_path: string | null;
  readonly generation: number | null;
  readonly health: HostHealth;
  readonly health_reason: string | null;
  readonly failed_units: readonly string[];
  readonly agent_version: string | null;
  readonly first_seen_at: string | null;
  readonly last_contact_at: string | null;
  /** How long caches keep its systems, unless it is heard of again. */
  readonly kept_until: string | null;
  /** Systems it could go back to, that caches keep. */
  readonly rollback_paths: readonly string[];
  /** It does not get these again until somebody releases it. */
  readonly failed_paths: readonly {
    readonly store_path: string;
    readonly reason: string | null;
    readonly since: string;
  }[];
  readonly last_run: DeploymentView | null;
}

/** A commit that is kept from hosts. */
export interface HoldView {
  readonly commit: string;
  readonly evaluation_id: string | null;
  readonly order: number | null;
  /** Whose failure it comes from; null: somebody holds it. */
  readonly host: string | null;
  readonly held_by: string | null;
  readonly reason: string | null;
  readonly since: string;
}
