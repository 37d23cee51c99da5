import * as v from "valibot";
import { nameText, secretText, text } from "./text.ts";

export const RegisterWorkerBody = v.object({
  worker_id: text(64),
  display_name: v.optional(nameText),
  url: v.nullish(text(2_000)),
  token: v.nullish(secretText),
  enable_fetch: v.optional(v.boolean(), true),
  enable_eval: v.optional(v.boolean(), true),
  enable_build: v.optional(v.boolean(), true),
}) satisfies v.GenericSchema<unknown, RegisterWorkerBody>;
export interface RegisterWorkerBody {
  /** A UUID of version 4. */
  readonly worker_id: string;
  /** The worker's id when absent. */
  readonly display_name?: string | undefined;
  /** Where the server dials the worker; without one the worker dials the server. */
  readonly url?: string | null | undefined;
  /** base64 of 48 bytes; made by the server when absent. */
  readonly token?: string | null | undefined;
  readonly enable_fetch: boolean;
  readonly enable_eval: boolean;
  readonly enable_build: boolean;
}

export const ChangeWorkerBody = v.object({
  active: v.optional(v.boolean()),
  display_name: v.optional(nameText),
  enable_fetch: v.optional(v.boolean()),
  enable_eval: v.optional(v.boolean()),
  enable_build: v.optional(v.boolean()),
}) satisfies v.GenericSchema<unknown, ChangeWorkerBody>;
export interface ChangeWorkerBody {
  readonly active?: boolean | undefined;
  readonly display_name?: string | undefined;
  readonly enable_fetch?: boolean | undefined;
  readonly enable_eval?: boolean | undefined;
  readonly enable_build?: boolean | undefined;
}

export interface WorkerRegistered {
  /** The organization's id: what the worker's peers file names before the token. */
  readonly peer_id: string;
  /** Only when the server made it; it is shown once. */
  readonly token?: string;
}

export interface WorkerView {
  readonly worker_id: string;
  readonly display_name: string;
  readonly registered_at: string;
  readonly active: boolean;
  readonly url: string | null;
  readonly created_by: string | null;
  readonly enable_fetch: boolean;
  readonly enable_eval: boolean;
  readonly enable_build: boolean;
  readonly is_base: boolean;
  /** `name:base64`: the public half of the key that it signs its uploads with. Null for one that never signed. */
  readonly signing_key: string | null;
  /** Null while the worker is not connected. */
  readonly live: WorkerLiveView | null;
}

export interface WorkerLiveView {
  readonly capabilities: {
    readonly core: boolean;
    readonly federate: boolean;
    readonly fetch: boolean;
    readonly eval: boolean;
    readonly build: boolean;
    readonly sign: boolean;
    readonly cache: boolean;
  };
  /** Of all groups together. */
  readonly architectures: readonly string[];
  readonly system_features: readonly string[];
  readonly max_concurrent_builds: number;
  /** What can be built together: a build runs in one group. A worker has one, a relay one for each kind of machine. */
  readonly groups: readonly {
    readonly architectures: readonly string[];
    readonly system_features: readonly string[];
    readonly max_concurrent_builds: number;
  }[];
  readonly assigned_job_count: number;
  readonly draining: boolean;
  /** What it measured last; null before it has. */
  readonly metrics: WorkerMetricsView | null;
}

export interface WorkerMetricsView {
  /** Of all processors together, from 0 to 100. */
  readonly cpu_usage_pct: number;
  readonly ram_free_mb: number;
  readonly ram_total_mb: number;
  /** Null where the machine does not tell. */
  readonly disk_speed_mbps: number | null;
  readonly network_speed_mbps: number | null;
}

export interface WorkerHistoryView {
  /** The last 2000, oldest first. */
  readonly samples: readonly (WorkerMetricsView & {
    readonly at: string;
    /** Of this organization. */
    readonly assigned_jobs: number;
    readonly max_concurrent_builds: number;
    readonly state: "active" | "idle" | "draining";
  })[];
  /** The last 100, newest first. */
  readonly connections: readonly {
    readonly id: string;
    readonly connected_at: string;
    readonly disconnected_at: string | null;
    readonly draining: boolean;
  }[];
  readonly jobs_dispatched: number;
}

export interface WorkerTestView {
  readonly ok: boolean;
  readonly connected: boolean;
  readonly authorized_for_org: boolean;
  readonly message: string;
}
