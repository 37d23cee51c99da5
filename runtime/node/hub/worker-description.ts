import type { WorkerDescription } from "#core/db/schema.ts";
import type { Capabilities, WorkerMessage } from "#core/protocol/worker-messages.ts";

type WorkerCapabilities = Extract<WorkerMessage, { type: "worker_capabilities" }>;

/** What a worker has told of itself, as it is kept and shown. */
export function describeWorker(
  capabilities: Capabilities,
  { groups, max_concurrent_evaluations, cpu_count, ram_total_mb, signing_key }: WorkerCapabilities,
): WorkerDescription {
  return {
    capabilities,
    groups,
    max_concurrent_evaluations,
    cpu_count,
    ram_total_mb,
    signing_key: signing_key ?? null,
    draining: false,
  };
}
