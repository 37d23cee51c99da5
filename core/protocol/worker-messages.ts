import * as v from "valibot";
import {
  AttributePath,
  CommitField,
  Count,
  list,
  PathInfoField,
  Sha256Hex,
  Size,
  StoredSourceField,
  StoreHashField,
  StorePathField,
  StreamField,
  StreamId,
  text,
  Uuid,
  Word,
  WorkerId,
} from "./fields.ts";
import {
  BUILD_MS_MAX,
  EVAL_BATCH_NODES_MAX,
  PRODUCT_PATH_LENGTH_MAX,
  PRODUCTS_MAX,
  QUERY_PATHS_MAX,
  SIGNATURES_MAX,
  WORKER_GROUPS_MAX,
  WORKER_ORGANIZATIONS_MAX,
  WORKER_SIGNING_KEYS_MAX,
} from "./limits.ts";
import { NarAbsent, NarReturn } from "./nar-return-messages.ts";

/** `name:base64`, of a key or a signature. */
const SignatureText: v.GenericSchema<string> = v.pipe(v.string(), v.regex(/^[!-9;-~]{1,255}:[A-Za-z0-9+/=]{1,128}$/));

export const Capabilities = v.object({
  fetch: v.boolean(),
  eval: v.boolean(),
  build: v.boolean(),
  sign: v.boolean(),
  federate: v.boolean(),
});
export type Capabilities = v.InferOutput<typeof Capabilities>;

/**
 * Places for builds that are alike. A worker has one group; a relay has one for each kind of machine behind it: what
 * one group can build is never put together from several.
 */
export const BuildGroup = v.object({
  architectures: list(Word, 64),
  system_features: list(Word, 256),
  max_concurrent_builds: Count,
  /** Whose builds these places are for. Absent: of every organization that lets the worker in. */
  organizations: v.optional(list(Uuid, WORKER_ORGANIZATIONS_MAX)),
});
export type BuildGroup = v.InferOutput<typeof BuildGroup>;

/** Places for evaluations behind a relay: what each of its machines can do alone. */
export const EvaluationGroup = v.object({
  fetch: v.boolean(),
  eval: v.boolean(),
  max_concurrent_evaluations: Count,
  organizations: v.optional(list(Uuid, WORKER_ORGANIZATIONS_MAX)),
});
export type EvaluationGroup = v.InferOutput<typeof EvaluationGroup>;

/** Why a job failed, as far as the worker knows. What it does not know is `transient`. */
export const FailureClass = v.picklist([
  "transient",
  "permanent",
  "timeout",
  "silent_timeout",
  "inputs_unavailable",
  "out_of_memory",
  "disk_full",
  "aborted",
]);
export type FailureClass = v.InferOutput<typeof FailureClass>;

/** What a build took. Null is what was not measured: no number is a guess. */
const BuildMetrics = v.object({
  /** Processor time of the builder and all it started. */
  cpu_user_ms: v.nullable(Count),
  cpu_system_ms: v.nullable(Count),
  /** The most memory that was seen in use at once, in bytes. */
  peak_memory_bytes: v.nullable(Count),
  /** From and to block devices, in bytes. */
  io_read_bytes: v.nullable(Count),
  io_write_bytes: v.nullable(Count),
});
export type BuildMetrics = v.InferOutput<typeof BuildMetrics>;

/** A file or folder in an output that the build offers for download (`nix-support/hydra-build-products`). */
const BuildProduct = v.object({
  output: Word,
  type: text(64),
  subtype: text(64),
  name: text(255),
  /** Of the file itself, links resolved: below one of the build's outputs. */
  path: text(PRODUCT_PATH_LENGTH_MAX),
  /** Null for a folder. */
  size: v.nullable(Size),
});
export type BuildProduct = v.InferOutput<typeof BuildProduct>;

const BuildResult = v.object({
  kind: v.literal("build"),
  /** `already_valid`: the daemon had the outputs, nothing was built. */
  status: v.picklist(["built", "already_valid", "failed"]),
  outputs: list(v.object({ name: Word, path: StorePathField }), 1000),
  failure: v.nullable(
    v.object({ class: FailureClass, message: text(8192), missing: list(StorePathField, QUERY_PATHS_MAX) }),
  ),
  build_ms: v.pipe(Count, v.maxValue(BUILD_MS_MAX, "longer than a year")),
  /** Absent when nothing was built or measured. */
  metrics: v.optional(BuildMetrics),
  /** Absent when there are none. */
  products: v.optional(list(BuildProduct, PRODUCTS_MAX)),
});
export type BuildResult = v.InferOutput<typeof BuildResult>;

const EvaluationResult = v.object({
  kind: v.literal("evaluation"),
  status: v.picklist(["completed", "failed"]),
  failure: v.nullable(v.object({ class: FailureClass, message: text(8192) })),
  /** What a fetch has put into the organization's internal store. */
  source: v.optional(StoredSourceField),
});
export type EvaluationResult = v.InferOutput<typeof EvaluationResult>;

/** How the machine is doing. Null is what cannot be told there. */
export const WorkerMetrics = v.object({
  type: v.literal("worker_metrics"),
  /** Of all processors together, since the last message. */
  cpu_usage_pct: v.pipe(v.number(), v.minValue(0), v.maxValue(100)),
  ram_free_mb: Count,
  /** What went through the disks and the network since the last message, in megabits a second. */
  disk_speed_mbps: v.nullable(v.pipe(v.number(), v.finite(), v.minValue(0))),
  network_speed_mbps: v.nullable(v.pipe(v.number(), v.finite(), v.minValue(0))),
});
export type WorkerMetrics = v.InferOutput<typeof WorkerMetrics>;

/** Every message a worker sends. The meaning of each is in `docs/protocol.md`. */
export const WorkerMessage = v.variant("type", [
  v.object({
    type: v.literal("init_connection"),
    version: Count,
    worker_id: WorkerId,
    capabilities: Capabilities,
  }),
  v.object({
    type: v.literal("auth_response"),
    tokens: list(v.object({ peer: Uuid, token: text(128) }), 10_000),
  }),
  v.object({
    type: v.literal("worker_capabilities"),
    /** Places that were asked for before this message are forgotten: groups have numbers anew, counted from 0. */
    groups: list(BuildGroup, WORKER_GROUPS_MAX),
    max_concurrent_evaluations: Count,
    /** Of a relay. Absent there is one group, of what the worker is capable of and `max_concurrent_evaluations`. */
    evaluation_groups: v.optional(list(EvaluationGroup, WORKER_GROUPS_MAX)),
    cpu_count: Count,
    ram_total_mb: Count,
    /** `name:base64`: what the worker signs its uploads with. Absent for a worker that does not sign. */
    signing_key: v.optional(SignatureText),
    /** Of a relay: those of the workers behind it. */
    signing_keys: v.optional(list(SignatureText, WORKER_SIGNING_KEYS_MAX)),
    /** It answers `nar_wanted`. */
    returns_nars: v.optional(v.boolean()),
    /**
     * The attempts this worker still runs or has results of. Others that the server knows of are freed at once. Null
     * when the message is sent again in a session: then it says nothing of attempts, which may be under way to it.
     */
    attempts: v.nullable(list(Uuid, 10_000)),
  }),
  /**
   * `free`: places that became free (a builder has ended, or an attempt), in addition to those asked for before in
   * this session.
   */
  v.object({
    type: v.literal("request_job"),
    kind: v.picklist(["evaluation", "build"]),
    /** The number of the group, of builds or of evaluations. Absent it is the first. */
    group: v.optional(Count),
    free: Count,
  }),
  v.object({
    type: v.literal("assign_job_response"),
    attempt: Uuid,
    accepted: v.boolean(),
    reason: v.optional(text(1024)),
  }),
  v.object({
    type: v.literal("job_update"),
    attempt: Uuid,
    phase: v.picklist(["fetching", "evaluating_flake", "evaluating_derivations", "building"]),
    commit: v.optional(CommitField),
  }),
  v.object({
    type: v.literal("eval_message"),
    attempt: Uuid,
    /** Counts the messages of an attempt, so that a repeated one is recorded once. */
    sequence: Count,
    level: v.picklist(["error", "warning", "notice"]),
    message: text(65_536),
    source: Word,
    attribute: v.nullable(AttributePath),
  }),
  v.object({
    type: v.literal("eval_batch"),
    attempt: Uuid,
    sequence: Count,
    nodes: v.pipe(
      v.array(
        v.object({
          drv_path: StorePathField,
          size: Size,
          pruned: v.boolean(),
          /** Of a derivation whose outputs have no paths of their own: the hash in the ids of their realisations. */
          realisation_hash: v.optional(Sha256Hex),
        }),
      ),
      v.maxLength(EVAL_BATCH_NODES_MAX),
    ),
    entry_points: list(v.object({ attribute: AttributePath, drv_path: StorePathField }), 10_000),
    /** The bytes of the nodes' `.drv` files, one after the other in the order of `nodes`. */
    content: StreamField,
  }),
  v.object({
    type: v.literal("query_derivations"),
    query: Count,
    attempt: Uuid,
    derivations: list(
      v.object({
        drv_path: StorePathField,
        outputs: list(StorePathField, 1000),
        /** Outputs that have no paths of their own. */
        realisations: v.optional(list(v.object({ hash: Sha256Hex, output: Word }), 1000)),
      }),
      QUERY_PATHS_MAX,
    ),
  }),
  v.object({
    type: v.literal("cache_query"),
    query: Count,
    attempt: Uuid,
    paths: list(StorePathField, QUERY_PATHS_MAX),
    /** Hash parts of store paths whose names the worker does not know; only the organization's own stores are asked. */
    hashes: v.optional(list(StoreHashField, QUERY_PATHS_MAX)),
  }),
  v.object({
    type: v.literal("nar_request"),
    request: Count,
    attempt: Uuid,
    path: StorePathField,
    /** The rest of a file that a `nar_offer` named before, from this offset. */
    resume: v.optional(v.object({ file: Sha256Hex, offset: Size })),
  }),
  v.object({
    type: v.literal("nar_push"),
    upload: Count,
    attempt: Uuid,
    /** `source`: into the organization's internal store. `output`: into the caches it writes to. */
    target: v.picklist(["source", "output"]),
    info: PathInfoField,
    /** By the worker's `signing_key`. */
    signatures: v.optional(list(SignatureText, SIGNATURES_MAX)),
    compression: v.picklist(["none", "zstd"]),
    stream: StreamId,
    /** It is offered together with the attempt's result, which names it and is sent next. */
    with_result: v.optional(v.boolean()),
  }),
  NarReturn,
  NarAbsent,
  /** `offset`: where in the attempt's log the stream begins. */
  v.object({ type: v.literal("log_open"), attempt: Uuid, offset: Count, stream: StreamId }),
  v.object({
    type: v.literal("job_result"),
    attempt: Uuid,
    /** Uploads of this session, sent `with_result`, that a build's result rests on: it counts when they all do. */
    uploads: v.optional(list(Count, 1000)),
    result: v.variant("kind", [BuildResult, EvaluationResult]),
  }),
  v.object({ type: v.literal("credit"), stream: StreamId, offset: Count }),
  v.object({ type: v.literal("stream_stop"), stream: StreamId }),
  v.object({ type: v.literal("heartbeat") }),
  /** The worker's tokens have changed: it wants to be challenged again. */
  v.object({ type: v.literal("reauth_request") }),
  WorkerMetrics,
  v.object({ type: v.literal("draining") }),
  /** What the server did wrong; the session ends. */
  v.object({ type: v.literal("error"), code: Count, message: text(8192) }),
]);
export type WorkerMessage = v.InferOutput<typeof WorkerMessage>;

/** Throws, with what is wrong with it, for anything that is no message of a worker. */
export function parseWorkerMessage(value: unknown): WorkerMessage {
  return v.parse(WorkerMessage, value);
}
