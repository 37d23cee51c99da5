import * as v from "valibot";
import { nameText, text, wholeNumber } from "./text.ts";

const KINDS = ["file", "executable", "symlink"] as const;

const FILES_MAX = 200_000;
const OVERRIDES_MAX = 256;

/** BLAKE3 as 64 lower-case hexadecimal digits. */
export const blobHash: v.GenericSchema<string> = v.pipe(
  v.string(),
  v.regex(/^[0-9a-f]{64}$/, "must be a BLAKE3 hash: 64 lower-case hexadecimal digits"),
);

/** `POST /build-requests/manifest`: the files of a source tree, by the hashes of their contents. */
export const ManifestBody = v.object({
  /** Name or id. */
  organization: nameText,
  files: v.pipe(
    v.array(
      v.object({
        path: text(4_096),
        hash: blobHash,
        size: wholeNumber(0, Number.MAX_SAFE_INTEGER),
        /** Of a `symlink` the content is its target. */
        kind: v.optional(v.picklist(KINDS, `must be one of ${KINDS.join(", ")}`), "file"),
      }),
    ),
    v.maxLength(FILES_MAX, `names more than ${FILES_MAX} files: send the source as a NAR`),
  ),
});
export type ManifestBody = v.InferOutput<typeof ManifestBody>;

export interface ManifestView {
  readonly session: string;
  /** Hashes whose content the server does not have yet, each once. */
  readonly missing: readonly string[];
}

export interface BlobsView {
  readonly uploaded: number;
  readonly remaining: number;
}

/** What is to be built of a source. */
export const BuildOrder = v.object({
  /** Attribute patterns as in a project's wildcard, a leading `.#` is left out; absent, everything. */
  target: v.optional(v.nullable(text(16_384)), null),
  /** Taken and not looked at: patterns name the system. */
  system: v.optional(v.nullable(text(100)), null),
  input_overrides: v.optional(
    v.pipe(
      v.array(v.object({ input_name: nameText, url: v.nullable(text(2_000)) })),
      v.maxLength(OVERRIDES_MAX, `overrides more than ${OVERRIDES_MAX} inputs`),
    ),
    [],
  ),
});
export type BuildOrder = v.InferOutput<typeof BuildOrder>;

export interface DispatchView {
  readonly evaluation: string;
  readonly project: string;
  readonly commit: string;
  /** A cache that the outputs come into; null where the organization has none. */
  readonly cache: string | null;
}

export const SourceQuery = v.object({
  /** Name or id. */
  organization: nameText,
  target: v.optional(text(16_384)),
});

export const ChunkQuery = v.object({
  offset: v.pipe(
    v.string(),
    v.regex(/^\d{1,15}$/, "must be a whole number without a sign"),
    v.transform((digits) => Number(digits)),
  ),
});
