import type { WorkerDescription } from "#core/db/schema.ts";
import type { Capabilities, WorkerMessage } from "#core/protocol/worker-messages.ts";

type WorkerCapabilities = Extract<WorkerMessage, { type: "worker_capabilities" }>;

/** What a worker has told of itself, as it is kept and shown. */
export function describeWorker(
  capabilities: Capabilities,
  { groups, max_concurrent_evaluations, evaluation_groups, cpu_count, ram_total_mb, ...keys }: WorkerCapabilities,
): WorkerDescription {
  return {
    capabilities,
    groups,
    max_concurrent_evaluations,
    ...(evaluation_groups && { evaluation_groups }),
    cpu_count,
    ram_total_mb,
    signing_key: keys.signing_key ?? null,
    ...(keys.signing_keys && { signing_keys: keys.signing_keys }),
    ...(keys.returns_nars && { returns_nars: true }),
    draining: false,
  };
}
