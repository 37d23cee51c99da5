import type { BuildGroup, EvaluationGroup } from "#core/protocol/worker-messages.ts";
import type { OutgoingMessage } from "./live-session.ts";

export interface WorkerFacts {
  readonly architectures: readonly string[];
  readonly systemFeatures: readonly string[];
  readonly maxConcurrentBuilds: number;
  readonly maxConcurrentEvaluations: number;
  readonly cpuCount: number;
  readonly ramTotalMb: number;
  /** `name:base64`: what the worker signs its uploads with. Absent or null for a worker that does not sign. */
  readonly signingKey?: string | null;
  /** Of a relay, what the workers behind it are and sign with, in place of the one group of the above. */
  readonly behind?: {
    readonly groups: readonly BuildGroup[];
    readonly evaluationGroups: readonly EvaluationGroup[];
    readonly signingKeys: readonly string[];
  };
}

/** What a worker says of itself when a session begins, and when it has changed, but for the attempts that it has. */
export function introductionOf(
  facts: WorkerFacts,
  { returnsNars }: { readonly returnsNars: boolean },
): Omit<Extract<OutgoingMessage, { type: "worker_capabilities" }>, "attempts"> {
  const own: BuildGroup = {
    architectures: [...facts.architectures],
    system_features: [...facts.systemFeatures],
    max_concurrent_builds: facts.maxConcurrentBuilds,
  };
  const { behind } = facts;
  return {
    type: "worker_capabilities",
    groups: behind ? [...behind.groups] : [own],
    max_concurrent_evaluations: facts.maxConcurrentEvaluations,
    ...(behind && { evaluation_groups: [...behind.evaluationGroups], signing_keys: [...behind.signingKeys] }),
    cpu_count: facts.cpuCount,
    ram_total_mb: facts.ramTotalMb,
    ...(facts.signingKey && { signing_key: facts.signingKey }),
    ...(returnsNars && { returns_nars: true }),
  };
}
