import * as v from "valibot";
import {
  Count,
  InputOverrideField,
  list,
  PathInfoField,
  Sha256Hex,
  Size,
  StoredSourceField,
  StorePathField,
  StreamField,
  StreamId,
  text,
  Uuid,
  Word,
} from "./fields.ts";
import { QUERY_PATHS_MAX } from "./limits.ts";
import { NarWanted } from "./nar-return-messages.ts";
import { Capabilities } from "./worker-messages.ts";

const FailedPeers = list(v.object({ peer_id: Uuid, reason: text(256) }), 10_000);

const EvaluationJob = v.object({
  kind: v.literal("evaluation"),
  evaluation: Uuid,
  organization: Uuid,
  repository: text(4096),
  commit: v.pipe(v.string(), v.regex(/^[0-9a-f]{40}([0-9a-f]{24})?$/, "not a commit")),
  wildcard: text(65_536),
  /**
   * `fetch`: put the flake with its inputs into the internal store, for `eval` to take it from there. `whole`: do both
   * in one go.
   */
  part: v.picklist(["whole", "fetch", "eval"]),
  /** False for what a stranger proposed: it may touch nothing that trusted ones use. */
  trusted: v.boolean(),
  overrides: list(InputOverrideField, 256),
  /** What a fetch has brought; for `eval` alone. */
  source: v.nullable(StoredSourceField),
  /** The organization's private key, where something is fetched over ssh. */
  ssh_key: v.nullable(text(16_384)),
  timeout_ms: Count,
  attributes_max: Count,
  derivations_max: Count,
  /** Warnings and notices. */
  messages_max: Count,
});
export type EvaluationJob = v.InferOutput<typeof EvaluationJob>;

const BuildJob = v.object({
  kind: v.literal("build"),
  build: Uuid,
  organization: Uuid,
  drv_path: StorePathField,
  /** The bytes of the `.drv` file. */
  drv: StreamField,
  /** Store paths that must be valid in the worker's store before the build. */
  inputs: list(StorePathField, 100_000),
  timeout_ms: Count,
  max_silent_ms: Count,
});
export type BuildJob = v.InferOutput<typeof BuildJob>;

/** Every message a server sends. The meaning of each is in `docs/protocol.md`. */
export const ServerMessage = v.variant("type", [
  v.object({ type: v.literal("auth_challenge"), peers: list(Uuid, 10_000) }),
  v.object({
    type: v.literal("init_ack"),
    version: Count,
    capabilities: Capabilities,
    authorized_peers: list(Uuid, 10_000),
    failed_peers: FailedPeers,
    /** How long a worker that hears nothing may go on with what it runs. */
    lease_ms: Count,
    /** Builds that a group may ask for at one time, also where it has fewer places. Absent: no more than its places. */
    builds_asked_max: v.optional(Count),
  }),
  /** The answer to an `auth_response` in mid-session: who lets the worker in from now on. */
  v.object({ type: v.literal("auth_update"), authorized_peers: list(Uuid, 10_000), failed_peers: FailedPeers }),
  /** This server is about to stop: the worker comes back at once, and reaches another if there is one. */
  v.object({ type: v.literal("draining") }),
  v.object({ type: v.literal("reject"), code: Count, reason: text(1024) }),
  v.object({ type: v.literal("error"), code: Count, message: text(8192) }),
  /** Of the attempts that the worker listed, those whose lease still holds. The worker stops the others. */
  v.object({
    type: v.literal("attempts"),
    /** `log_bytes`: how much of the attempt's log the server has; the worker goes on from there. */
    held: v.pipe(v.array(v.object({ attempt: Uuid, log_bytes: Count })), v.maxLength(10_000)),
  }),
  v.object({
    type: v.literal("assign_job"),
    attempt: Uuid,
    /** The number of the group whose place it takes. Absent it is the first. */
    group: v.optional(Count),
    job: v.variant("kind", [EvaluationJob, BuildJob]),
  }),
  v.object({ type: v.literal("abort_job"), attempt: Uuid, reason: text(1024) }),
  v.object({
    type: v.literal("eval_batch_ack"),
    attempt: Uuid,
    sequence: Count,
    error: v.nullable(text(8192)),
    /** The batch may be sent again: what it met was of the moment. */
    retry: v.optional(v.boolean()),
  }),
  v.object({
    type: v.literal("derivation_status"),
    query: Count,
    /** In the order of the question: whether the worker need not look below this derivation. */
    known: list(v.boolean(), QUERY_PATHS_MAX),
  }),
  v.object({
    type: v.literal("cache_status"),
    query: Count,
    /** Those of the paths asked for that the worker can have from the server, with what is known of them. */
    present: list(PathInfoField, QUERY_PATHS_MAX),
  }),
  /** The server could not find out. It never means "absent"; ask again. */
  v.object({ type: v.literal("query_error"), query: Count, message: text(1024) }),
  v.object({
    type: v.literal("nar_offer"),
    request: Count,
    info: PathInfoField,
    /** One of `none`, `zstd`, `xz`, `gzip`, `br`; an upstream's file comes as it is kept there. */
    compression: Word,
    /** Null where an upstream does not say. */
    file_size: v.nullable(Size),
    /** The hash of the file: a broken transfer of it can be resumed. Absent: it begins anew. */
    file: v.optional(Sha256Hex),
    /** Where in the file the stream begins: what was asked for, or 0 when the file is another. */
    offset: v.optional(Size),
    stream: StreamId,
  }),
  /** The transfer has ended early; what is under way of its stream is worth nothing. Asked again it may succeed. */
  v.object({ type: v.literal("nar_abort"), request: Count, stream: StreamId, reason: text(1024) }),
  v.object({ type: v.literal("nar_unavailable"), request: Count, reason: text(1024), retry: v.boolean() }),
  v.object({ type: v.literal("nar_committed"), upload: Count }),
  v.object({ type: v.literal("nar_refused"), upload: Count, message: text(8192), retry: v.boolean() }),
  NarWanted,
  v.object({ type: v.literal("job_result_ack"), attempt: Uuid }),
  v.object({ type: v.literal("credit"), stream: StreamId, offset: Count }),
  v.object({ type: v.literal("stream_stop"), stream: StreamId }),
  v.object({ type: v.literal("heartbeat") }),
]);
export type ServerMessage = v.InferOutput<typeof ServerMessage>;

/** Throws, with what is wrong with it, for anything that is no message of a server. */
export function parseServerMessage(value: unknown): ServerMessage {
  return v.parse(ServerMessage, value);
}
