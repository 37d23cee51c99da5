import type { Generated } from "kysely";

/** Somebody's sources that are on their way to be built. */
export interface BuildRequestTable {
  id: string;
  organization_id: string;
  user_id: string;
  created_at: Generated<Date>;
  expires_at: Date;
  evaluation_id: string | null;
  dispatched_at: Date | null;
}

export interface BuildRequestFileTable {
  request_id: string;
  /** Names with slashes between them. */
  path: string;
  /** BLAKE3 of the content; of a link it is the target. */
  hash: Uint8Array;
  size: number;
  /** 0 a file, 1 an executable one, 2 a symbolic link. */
  kind: number;
}

/** Contents by their hash, for this request and the next ones of the organization. */
export interface SourceBlobTable {
  organization_id: string;
  hash: Uint8Array;
  size: number;
  object_key: string;
  last_used_at: Generated<Date>;
}

/** A NAR that comes in parts. */
export interface SourceUploadTable {
  id: string;
  user_id: string;
  received: Generated<number>;
  last_used_at: Generated<Date>;
}

export interface SourceUploadPartTable {
  upload_id: string;
  byte_start: number;
  byte_length: number;
  object_key: string;
}
