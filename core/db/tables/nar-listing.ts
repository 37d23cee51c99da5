import type { ColumnType } from "kysely";

/** What is in a NAR. */
export interface NarListingTable {
  nar_hash: Uint8Array;
  /** gzip of the listing's JSON; null where it is larger than what is kept. */
  data: Uint8Array | null;
  /** Of the JSON. */
  text_bytes: number;
  created_at: ColumnType<Date, Date | undefined, never>;
}

/** A NAR that has the debug information of a build id, where Nix looks for it. */
export interface NarDebugFileTable {
  /** 20 bytes. */
  build_id: Uint8Array;
  nar_hash: Uint8Array;
}
