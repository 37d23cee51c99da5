import * as v from "valibot";
import { text, wholeNumber } from "./text.ts";

const REVISIONS_MAX = 1_000;
const REASON_MAX = 1_000;
const GIGABYTES_MAX = 1_000_000_000;
const HOURS_MAX = 876_000;

export const PinBody = v.object({
  store_path: text(300),
  keep_revisions: v.optional(wholeNumber(1, REVISIONS_MAX)),
}) satisfies v.GenericSchema<unknown, PinBody>;
export interface PinBody {
  /** A path that the cache has, with or without `/nix/store/`, or the 32 characters of its hash. */
  readonly store_path: string;
  /** So many of the newest revisions stay. Absent: as the pin was, and 1 for a new one. */
  readonly keep_revisions?: number | undefined;
}

export interface PinView {
  readonly name: string;
  readonly keep_revisions: number;
  readonly revision: number;
  readonly store_path: string;
  readonly created_by: string | null;
  readonly created_at: string;
}

export const BlockBody = v.object({ reason: text(REASON_MAX) }) satisfies v.GenericSchema<unknown, BlockBody>;
export interface BlockBody {
  readonly reason: string;
}

export interface BlockView {
  /** The 32 characters of the store path's hash. */
  readonly hash: string;
  readonly reason: string;
  readonly blocked_by: string | null;
  readonly created_at: string;
}

const flag = v.optional(v.picklist(["true", "false"], "must be true or false"), "false");
export const RemovePathQuery = v.object({
  referrers: flag,
  block: v.optional(text(REASON_MAX)),
}) satisfies v.GenericSchema<unknown, RemovePathQuery>;
export interface RemovePathQuery {
  /** Whether what refers to the path goes too. */
  readonly referrers: "true" | "false";
  /** Why the cache does not take the path again; absent: it does. */
  readonly block?: string | undefined;
}

/** Its own type says that the field may be absent. */
function queryNumber(max: number) {
  return v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9]{1,10}$/, `must be a whole number from 0 to ${max}`),
      v.transform(Number),
      v.maxValue(max, `must be a whole number from 0 to ${max}`),
    ),
  );
}

export const PreviewQuery = v.object({
  max_storage_gb: queryNumber(GIGABYTES_MAX),
  ttl_hours: queryNumber(HOURS_MAX),
}) satisfies v.GenericSchema<unknown, PreviewQuery>;
export interface PreviewQuery {
  /** As if the cache had this limit. 0 is none. */
  readonly max_storage_gb?: number | undefined;
  /** As if the server were set so. 0: nothing goes for lack of use. */
  readonly ttl_hours?: number | undefined;
}

export interface PreviewView {
  /** What the cache holds. Bytes are those of files; a file counts for each of its paths. */
  readonly held: { readonly paths: number; readonly bytes: number };
  /** What the next sweep would take, were nothing asked for until then. */
  readonly doomed: {
    readonly paths: number;
    readonly bytes: number;
    /** Of files that nothing else is served from: what the storage gets back. */
    readonly freed_bytes: number;
  };
  /** The largest of them. */
  readonly largest: readonly {
    readonly store_path: string;
    readonly file_size: number;
    readonly last_used_at: string;
  }[];
}

export interface WhyView {
  readonly kept: boolean;
  /**
   * `evaluation`, `open_build`, `build_source`, `evaluation_source`, `pin`, `host`, `use`, `fresh`, `no_limit` or
   * `none`.
   */
  readonly reason: string;
  /** The id of an evaluation or a build, the name of a pin or a host; null where that is not the reader's to know. */
  readonly subject: string | null;
  /** From the path itself to the one that has the reason, each referring to the one before it. */
  readonly chain: readonly string[];
  readonly last_used_at: string | null;
}

/** `POST /admin/maintenance/deep-gc`. */
export const DeepSweepBody = v.object({
  force: v.optional(v.boolean(), false),
}) satisfies v.GenericSchema<unknown, DeepSweepBody>;
export interface DeepSweepBody {
  /** Objects that no row names go even where most of the storage is unknown to this database. */
  readonly force: boolean;
}

export const LatestQuery = v.object({ attribute: v.optional(text(4_000)) }) satisfies v.GenericSchema<
  unknown,
  LatestQuery
>;
export interface LatestQuery {
  readonly attribute?: string | undefined;
}

export interface LatestView {
  readonly attribute: string;
  readonly evaluation_id: string;
  readonly build_id: string;
  readonly derivation: string;
  readonly commit: string;
  readonly created_at: string;
}
