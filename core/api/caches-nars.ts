import * as v from "valibot";
import { queryNumber } from "./evaluation-queries.ts";
import { text } from "./text.ts";

const PER_PAGE_DEFAULT = 50;
const PER_PAGE_MAX = 200;
const PAGE_MAX = 1_000_000;

export const NAR_SORTS = ["created_at", "nar_size", "last_fetched_at"] as const;
export type NarSort = (typeof NAR_SORTS)[number];

const pathHash = v.pipe(v.string(), v.regex(/^[0-9a-z]{1,32}$/, "must be the beginning of a store path's hash"));
const clamped = (byDefault: number, max: number) =>
  v.optional(v.pipe(queryNumber, v.toMinValue(1), v.toMaxValue(max)), String(byDefault));

/** `page` counts from 1; `per_page` is clamped to 1 to 200. `hash` is a beginning, `package` a part of the name. */
export const NarsQuery = v.object({
  hash: v.optional(pathHash),
  package: v.optional(text(300)),
  sort: v.optional(v.picklist(NAR_SORTS, `must be one of ${NAR_SORTS.join(", ")}`), "created_at"),
  order: v.optional(v.picklist(["asc", "desc"], "must be asc or desc"), "desc"),
  page: clamped(1, PAGE_MAX),
  per_page: clamped(PER_PAGE_DEFAULT, PER_PAGE_MAX),
});
export type NarsQuery = v.InferOutput<typeof NarsQuery>;

/** `GET .../nars/available`: a store path, with or without `/nix/store/`, or the 32 characters of its hash. */
export const AvailableQuery = v.object({ hash: text(300) });

export interface NarView {
  /** The 32 characters of the store path's hash. */
  readonly hash: string;
  readonly store_path: string;
  /** The name in the store path. */
  readonly package: string;
  readonly nar_size: number;
  readonly file_size: number;
  readonly created_at: string;
  /** Within ten minutes; at first, when the path came. */
  readonly last_fetched_at: string;
}

export interface NarDetailsView extends NarView {
  /** As a narinfo has it, `sha256:` and base32. */
  readonly file_hash: string;
  readonly nar_hash: string;
  /** As a narinfo has them, without `/nix/store/`. */
  readonly references: readonly string[];
  readonly deriver: string | null;
  readonly ca: string | null;
  /**
   * How often its narinfo or a file in it was asked for and found, within ten minutes. Not counted: downloads of the
   * NAR itself, what a proxy remembers, and at the edge more than one in ten minutes.
   */
  readonly fetch_count: number;
  readonly signed: boolean;
}

export interface NarStatsView {
  readonly total_nars: number;
  readonly total_nar_size: number;
  readonly total_file_size: number;
  readonly last_uploaded_at: string | null;
  readonly oldest_fetched_at: string | null;
}

export interface TrafficPoint {
  /** The begin of the span. */
  readonly time: string;
  readonly bytes: number;
  readonly requests: number;
}

export interface StoragePoint {
  readonly time: string;
  readonly packages: number;
  readonly bytes: number;
}

/** Spans are 60 minutes, 24 hours, 30 days and 12 weeks, in UTC, the last of them now. */
export interface CacheStatsView {
  /** Of the files; a file counts for each of its paths. */
  readonly total_bytes: number;
  readonly total_nar_bytes: number;
  readonly total_packages: number;
  readonly storage_minutes: readonly StoragePoint[];
  readonly storage_hours: readonly StoragePoint[];
  readonly storage_days: readonly StoragePoint[];
  readonly storage_weeks: readonly StoragePoint[];
  readonly minutes: readonly TrafficPoint[];
  readonly hours: readonly TrafficPoint[];
  readonly days: readonly TrafficPoint[];
  readonly weeks: readonly TrafficPoint[];
}
