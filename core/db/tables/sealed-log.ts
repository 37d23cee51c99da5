import type { ColumnType } from "kysely";

/** `[place, line feeds before]`. */
export type LinePlace = readonly [number, number];

/** A log in the blob store: zstd frames one after the other, each of them readable on its own. */
export interface SealedLogTable {
  attempt_id: string;
  object_key: string;
  /** Of the log itself. */
  bytes: number;
  /** A last line without a line feed counts. */
  lines: number;
  file_bytes: number;
  /** Every frame but the last holds this many bytes of the log. */
  frame_bytes: number;
  /** Where each frame begins in the object. */
  frames: ColumnType<readonly LinePlace[], string, string>;
  /** Where each chunk that readers are shown begins in the log. */
  chunks: ColumnType<readonly LinePlace[], string, string>;
  created_at: ColumnType<Date, Date | undefined, never>;
}
