import * as v from "valibot";
import type { EstimateView } from "./estimates.ts";
import { queryNumber } from "./evaluation-queries.ts";
import type { BuildStatusName } from "./status.ts";

const LINE_RANGE = /^L?(\d{1,9})(?:-L?(\d{1,9}))?$/;

/** `GET /builds/{build}/log/lines`: lines count from 1, both ends belong to the range; no end is the log's end. */
export const LogLinesQuery = v.pipe(
  v.object({
    start: v.optional(queryNumber),
    end: v.optional(queryNumber),
    range: v.optional(v.pipe(v.string(), v.regex(LINE_RANGE, "must be of the form L1-L9"))),
  }),
  v.transform(({ start, end, range }) => {
    const match = range === undefined ? null : LINE_RANGE.exec(range);
    if (!match) return { first: start ?? 1, last: end };
    return { first: Number(match[1]), last: Number(match[2] ?? match[1]) };
  }),
  v.check(({ first }) => first >= 1, "lines count from 1"),
  v.check(({ first, last }) => last === undefined || last >= first, "the last line comes before the first"),
);
export type LogLinesQuery = v.InferOutput<typeof LogLinesQuery>;

/** `GET /builds/{build}/log/search`; `case` makes letters count. */
export const LogSearchQuery = v.object({
  q: v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(1_000, "must have at most 1000 characters")),
  case: v.optional(v.picklist(["", "0", "1", "false", "true"], "must be true or false"), "false"),
});
export type LogSearchQuery = v.InferOutput<typeof LogSearchQuery>;

export interface BuildView {
  readonly id: string;
  readonly evaluation: string;
  readonly status: BuildStatusName;
  /** Paths have no store folder. */
  readonly derivation_path: string;
  readonly architecture: string;
  /** The worker of the attempt whose log is shown; null before the first, and for who is no member. */
  readonly worker: string | null;
  readonly output: Readonly<Record<string, string>>;
  /** The attempt whose log is shown; `GET /board/jobs/{job}` says why its worker was chosen. */
  readonly job: string | null;
  /** Why it failed; null while it has not. */
  readonly error: string | null;
  /** What that attempt took; null until it ended, and where its worker measured nothing. */
  readonly metrics: BuildMetrics | null;
  /** How urgent it is, from -10 to 10. */
  readonly priority: number;
  /** While it waits. */
  readonly waiting_reason?: BuildWaiting;
  /** When it will have ended, with all that it waits for; null while that is not known, and afterwards. */
  readonly eta: EstimateView | null;
  readonly created_at: string;
  readonly updated_at: string;
}

/** What a build took; null is what was not measured. */
export interface BuildMetrics {
  /** How long the builder ran, without the transfer of inputs and outputs. */
  readonly build_ms: number | null;
  readonly cpu_user_ms: number | null;
  readonly cpu_system_ms: number | null;
  readonly peak_memory_bytes: number | null;
  readonly io_read_bytes: number | null;
  readonly io_write_bytes: number | null;
}

/**
 * Why a build has not begun.
 *
 * - `dependencies`: so many of its inputs are not there yet.
 * - `retry`: it failed for a reason that may pass, and is tried again then.
 * - `draining`: an administrator has the instance give out nothing new.
 * - `workers`: no connected worker of the organization has what it needs.
 * - `place`: all places that it could run in are taken; so many builds of its kind have waited longer.
 */
export type BuildWaiting =
  | { readonly kind: "dependencies"; readonly count: number }
  | { readonly kind: "retry"; readonly at: string }
  | { readonly kind: "draining" }
  | {
      readonly kind: "workers";
      readonly architecture: string;
      readonly required_features: readonly string[];
      readonly connected_workers: number;
      readonly available_architectures: readonly string[];
    }
  | { readonly kind: "place"; readonly ahead: number };

export interface BuildDependency {
  readonly id: string;
  readonly name: string;
  readonly path: string;
  readonly status: BuildStatusName;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface LogChunksView {
  readonly total_chunks: number;
  readonly total_lines: number;
  readonly total_bytes: number;
  readonly chunks: readonly LogChunkView[];
}

/** Chunks end at ends of lines. One that another follows never changes. */
export interface LogChunkView {
  readonly index: number;
  /** Lines before the chunk. */
  readonly line_start: number;
  readonly line_count: number;
  readonly byte_start: number;
  readonly byte_len: number;
}

/** One line that holds what was searched for. */
export interface LogSearchHit {
  /** Counts from 1. */
  readonly line_number: number;
  readonly chunk_index: number;
  /** Of the line's first byte in the whole log. */
  readonly byte_offset: number;
  readonly preview: string;
}

/** The last line of the answer. More lines may have matched than were listed. */
export interface LogSearchEnd {
  readonly done: true;
  readonly total_matches: number;
}
