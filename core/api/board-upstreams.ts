import * as v from "valibot";
import { queryNumber } from "./evaluation-queries.ts";

/** 90 days: hours that are older are not kept. */
export const UPSTREAM_HOURS_MAX = 2_160;

/** `GET /board/cache/upstreams`. */
export const UpstreamsQuery = v.object({
  window_hours: v.optional(v.pipe(queryNumber, v.toMinValue(1), v.toMaxValue(UPSTREAM_HOURS_MAX)), "24"),
});
export type UpstreamsQuery = v.InferOutput<typeof UpstreamsQuery>;

export interface SeriesPoint {
  readonly bucket_start: string;
  readonly count: number;
  readonly sum: number;
}

/** How an upstream answers look-ups. */
export interface UpstreamFigures {
  readonly upstream_id: string;
  readonly display_name: string;
  readonly url: string | null;
  readonly avg_latency_ms: number | null;
  /** Of the answers; what failed is none. */
  readonly hit_rate: number | null;
  readonly requests_total: number;
  readonly failures_total: number;
  /** An hour a point: `sum` is milliseconds of `count` requests. */
  readonly latency: readonly SeriesPoint[];
  /** An hour a point: `sum` is hits among `count` answers. */
  readonly hit_rate_series: readonly SeriesPoint[];
}
