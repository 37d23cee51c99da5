import * as v from "valibot";
import { queryNumber } from "./evaluation-queries.ts";

/** `GET /board/scoring/summary`. */
export const ScoringQuery = v.object({
  window_hours: v.optional(v.pipe(queryNumber, v.toMinValue(1), v.toMaxValue(2_160)), "24"),
  limit: v.optional(v.pipe(queryNumber, v.toMinValue(1), v.toMaxValue(10_000)), "2000"),
});
export type ScoringQuery = v.InferOutput<typeof ScoringQuery>;

/** One assignment of an evaluation (kind 0), a build (1) or a fetch (2) to a worker. */
export interface DispatchedJob {
  readonly id: string;
  readonly kind: number;
  /** The organization's id. */
  readonly organization: string;
  /** Null for who is no member of it. */
  readonly worker_id: string | null;
  /** Null for what is given out in order, without points. */
  readonly score: number | null;
  readonly dispatched_at: string;
  /** As the newest evaluation that links it has it. */
  readonly build_id: string | null;
  readonly evaluation_id: string | null;
  readonly pname: string | null;
}

export interface DispatchedJobs {
  /** What runs, newest first, at most 500. */
  readonly jobs: readonly DispatchedJob[];
  /** Of organizations that the reader may not see. */
  readonly other_running: number;
}

export interface PendingJob {
  readonly kind: number;
  readonly organization: string;
  readonly evaluation_id: string | null;
  readonly build_id: string | null;
  readonly queued_at: string;
  /** What it needs directly. */
  readonly dependency_count: number;
  readonly pname: string | null;
}

export interface PendingJobs {
  /** What could begin, longest ready first, at most 500. */
  readonly jobs: readonly PendingJob[];
  /** Of organizations that the reader may not see; counted up to 10000. */
  readonly other_pending: number;
}

type Facts = Readonly<Record<string, number | boolean | null>>;

export interface JobDetail extends DispatchedJob {
  readonly organization_name: string;
  readonly queued_at: string | null;
  readonly finished_at: string | null;
  /** The points of each rule that gave any; they add up to the score. */
  readonly score_breakdown: readonly { readonly rule: string; readonly score: number }[];
  /** What the rules went by. */
  readonly worker_context: Facts | null;
  readonly job_context: Facts | null;
  readonly instance_context: Facts | null;
  /** Earlier ones of the same build or evaluation, newest first. */
  readonly previous_attempts: readonly {
    readonly dispatched_job_id: string;
    readonly outcome: number;
    readonly reason: number | null;
    readonly failure_message: string | null;
    readonly created_at: string;
  }[];
}

export interface ScoringSummary {
  readonly sample_size: number;
  readonly score_min: number | null;
  readonly score_max: number | null;
  readonly score_avg: number | null;
  /** Twelve equal parts from the least to the most. */
  readonly histogram: readonly { readonly lo: number; readonly hi: number; readonly count: number }[];
  /** Over the assignments of the sample; a rule that gave no points counts as 0. */
  readonly rules: readonly {
    readonly rule: string;
    readonly avg: number;
    readonly min: number;
    readonly max: number;
  }[];
}
