import type { Generated } from "kysely";

/** A NAR that somebody has sent to a cache and that no path of it has named since. */
export interface SentNarTable {
  cache_id: string;
  user_id: string;
  nar_hash: Uint8Array;
  /** Of the file as it was sent: the name that the client knows it by. */
  file_hash: Uint8Array;
  sent_at: Generated<Date>;
}

/** A NAR file that comes in parts. */
export interface NarUploadTable {
  id: string;
  cache_id: string;
  user_id: string;
  /** The 32 characters of the store path's hash. */
  hash: string;
  /** 0 through the server, 1 straight into its storage. */
  kind: number;
  received: Generated<number>;
  /** Of kind 1: what was announced, and the storage's name of the upload. */
  file_size: number | null;
  storage_upload: string | null;
  last_used_at: Generated<Date>;
}

export interface NarUploadPartTable {
  upload_id: string;
  byte_start: number;
  byte_length: number;
  object_key: string;
}

/** A build log that was pushed. */
export interface CacheLogTable {
  cache_id: string;
  /** Base name. */
  derivation: string;
  /** Compressed with zstd. */
  log: Uint8Array;
  log_size: number;
  created_at: Generated<Date>;
}
