import type { BuildResult, EvaluationResult } from "#core/protocol/worker-messages.ts";

const LENGTH_MAX = 8_000;

/** The result of an attempt that failed for a reason of this worker or machine: the next may do better. */
export function transientFailure(kind: "build" | "evaluation", message: string): BuildResult | EvaluationResult {
  const said = { class: "transient", message: message.slice(0, LENGTH_MAX) } as const;
  return kind === "evaluation"
    ? { kind, status: "failed", failure: said }
    : { kind, status: "failed", outputs: [], failure: { ...said, missing: [] }, build_ms: 0 };
}
