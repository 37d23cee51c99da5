import type { FoundUpstreamPath } from "../db/upstream-paths.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { storedPath } from "./cache-path.ts";
import { sha256Of } from "./nar.ts";

/** A narinfo of an upstream as it is kept. */
export function recordOf(upstreamId: string, info: NarInfo): FoundUpstreamPath {
  return {
    upstream_id: upstreamId,
    hash: storePathHash(info.storePath),
    store_path: storePathBaseName(info.storePath),
    url: info.url,
    compression: info.compression,
    file_hash: info.fileHash?.algorithm === "sha256" ? info.fileHash.digest : null,
    file_size: info.fileSize,
    nar_hash: info.narHash.digest,
    nar_size: info.narSize,
    references: info.references.map(storePathBaseName),
    deriver: info.deriver && storePathBaseName(info.deriver),
    ca: info.ca,
    signatures: [...info.signatures],
  };
}

export function narInfoOfRecord(row: FoundUpstreamPath): NarInfo {
  return {
    storePath: storedPath(row.store_path),
    url: row.url,
    compression: row.compression,
    fileHash: row.file_hash && sha256Of(row.file_hash),
    fileSize: row.file_size,
    narHash: sha256Of(row.nar_hash),
    narSize: row.nar_size,
    references: row.references.map(storedPath),
    deriver: row.deriver === null ? null : storedPath(row.deriver),
    signatures: row.signatures ?? [],
    ca: row.ca,
  };
}
