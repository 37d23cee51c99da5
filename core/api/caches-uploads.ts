import * as v from "valibot";
import { text, wholeNumber } from "./text.ts";

const REFERENCES_MAX = 20_000;
const SIGNATURES_MAX = 32;
/** As many as the largest closures have. */
const PATHS_MAX = 100_000;
const PARTS_MAX = 10_000;

/** A store path, whole or as its base name. */
const pathText = text(300);
const hashText = text(200);
const size = wholeNumber(0, Number.MAX_SAFE_INTEGER);

/** What a narinfo says of a path, as JSON. */
const pathFields = {
  store_path: pathText,
  nar_hash: hashText,
  nar_size: size,
  references: v.optional(
    v.pipe(v.array(pathText), v.maxLength(REFERENCES_MAX, `has more than ${REFERENCES_MAX} references`)),
    [],
  ),
  deriver: v.nullish(pathText),
  ca: v.nullish(text(1_000)),
  signatures: v.optional(
    v.pipe(v.array(text(1_000)), v.maxLength(SIGNATURES_MAX, `has more than ${SIGNATURES_MAX} signatures`)),
    [],
  ),
};

export const PathBody = v.object(pathFields);
export type PathBody = v.InferOutput<typeof PathBody>;

/** A path with the file that its NAR comes in; `file_hash` and `file_size` are of the file as it is sent. */
export const UploadBody = v.object({ ...pathFields, file_hash: v.nullish(hashText), file_size: v.nullish(size) });
export type UploadBody = v.InferOutput<typeof UploadBody>;

/** `commit=later`: the NAR waits for a closure that names it. */
export const CommitQuery = v.object({
  commit: v.optional(v.picklist(["now", "later"], "must be `now` or `later`"), "now"),
});

export const ClosureBody = v.object({
  paths: v.pipe(
    v.array(PathBody),
    v.minLength(1, "names no path"),
    v.maxLength(PATHS_MAX, `names more than ${PATHS_MAX} paths`),
  ),
});
export type ClosureBody = v.InferOutput<typeof ClosureBody>;

export const MissingBody = v.object({
  paths: v.pipe(
    v.array(v.object({ store_path: pathText, nar_hash: v.nullish(hashText) })),
    v.maxLength(PATHS_MAX, `names more than ${PATHS_MAX} paths`),
  ),
  /** Whether what an upstream of the cache has is left out, too: its references are satisfied there. */
  upstreams: v.optional(v.boolean(), false),
});
export type MissingBody = v.InferOutput<typeof MissingBody>;

export interface MissingView {
  /** Neither in the cache nor, when that was asked, in an upstream. In the order of the question. */
  readonly missing: readonly string[];
  /** Of these: whose NAR need not be sent again. */
  readonly known_nars: readonly string[];
}

export interface UploadedView {
  readonly store_path: string;
  /** False when the path was there before, or waits for its closure. */
  readonly created: boolean;
}

export interface CommittedView {
  /** Paths that were not there before. */
  readonly created: readonly string[];
}

export const PresignedBody = v.object({ file_size: wholeNumber(1, Number.MAX_SAFE_INTEGER) });
export type PresignedBody = v.InferOutput<typeof PresignedBody>;

export interface PresignedView {
  /** Each is PUT by itself, in any order, with exactly so many bytes. The answer's `ETag` goes into the completion. */
  readonly parts: readonly { readonly number: number; readonly size: number; readonly url: string }[];
  /** The URLs end then; asking again gives new ones for the same upload. */
  readonly expires_at: string;
}

export const CompleteBody = v.object({
  path: UploadBody,
  parts: v.pipe(
    v.array(v.object({ number: wholeNumber(1, PARTS_MAX), etag: text(200) })),
    v.minLength(1, "names no part"),
    v.maxLength(PARTS_MAX, `names more than ${PARTS_MAX} parts`),
  ),
});
export type CompleteBody = v.InferOutput<typeof CompleteBody>;
