import type { NarRow } from "../db/schema.ts";
import type { Hash } from "../nix/hash.ts";

/** One stored object. Its hashes were right when it was stored. */
export interface Nar {
  /** SHA-256 of the NAR itself. */
  readonly narHash: Hash;
  readonly narSize: number;
  /** SHA-256 of the stored file: its name in URLs. */
  readonly fileHash: Hash;
  readonly fileSize: number;
  readonly compression: string;
  readonly objectKey: string;
}

type NarColumns = Pick<NarRow, "nar_hash" | "nar_size" | "file_hash" | "file_size" | "compression" | "object_key">;

export function narOf(row: NarColumns): Nar {
  return {
    narHash: sha256Of(row.nar_hash),
    narSize: row.nar_size,
    fileHash: sha256Of(row.file_hash),
    fileSize: row.file_size,
    compression: row.compression,
    objectKey: row.object_key,
  };
}

/** Copies the digest: a driver's bytes are a view into a larger buffer. */
export function sha256Of(digest: Uint8Array): Hash {
  return { algorithm: "sha256", digest: new Uint8Array(digest) };
}
