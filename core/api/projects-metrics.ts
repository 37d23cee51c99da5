import * as v from "valibot";
import type { BuildStatusName } from "./status.ts";
import { text } from "./text.ts";

/** `GET .../entry-point-metrics`: an attribute as entry points show it. */
export const EntryPointMetricsQuery = v.object({ eval: text(4_096) });

/** Sizes are those of NARs in bytes, as far as they are stored; null also where too much would have to be counted. */
export interface EvaluationPoint {
  readonly evaluation_id: string;
  readonly created_at: string;
  readonly build_time_total_ms: number;
  readonly eval_time_ms: number | null;
  /** Of what the entry points made. */
  readonly output_size_bytes: number | null;
  /** Of what everything made that was needed to build them. */
  readonly closure_size_bytes: number | null;
  /** Of what the entry points made with all that it refers to. */
  readonly runtime_closure_size_bytes: number | null;
  readonly dependencies_count: number | null;
}

/** Completed evaluations, the oldest first. */
export interface ProjectMetrics {
  readonly keep_evaluations: number;
  readonly points: readonly EvaluationPoint[];
}

export interface EntryPointPoint
  extends Pick<
    EvaluationPoint,
    | "evaluation_id"
    | "created_at"
    | "output_size_bytes"
    | "closure_size_bytes"
    | "runtime_closure_size_bytes"
    | "dependencies_count"
  > {
  readonly build_id: string;
  readonly build_status: BuildStatusName;
  readonly build_time_ms: number | null;
}

/** Evaluations that have the entry point, the oldest first. */
export interface EntryPointMetrics {
  readonly eval: string;
  readonly keep_evaluations: number;
  readonly points: readonly EntryPointPoint[];
}
