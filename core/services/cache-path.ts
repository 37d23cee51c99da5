import type { PathWithNar } from "../db/cache-paths.ts";
import { assert } from "../lib/assert.ts";
import { encodeBase32 } from "../nix/base32.ts";
import type { Hash } from "../nix/hash.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { parseStorePathBaseName, type StorePath } from "../nix/store-path.ts";
import { sha256Of } from "./nar.ts";

/** The name of a stored file below a cache's address. Objects are always zstd. */
export function narFileUrl(fileHash: Hash): string {
  return `nar/${encodeBase32(fileHash.digest)}.nar.zst`;
}

/** What the cache says of one of its paths. */
export function narInfoOf(row: PathWithNar): NarInfo {
  const fileHash = sha256Of(row.file_hash);
  return {
    storePath: storedPath(row.store_path),
    url: narFileUrl(fileHash),
    compression: row.compression,
    fileHash,
    fileSize: row.file_size,
    narHash: sha256Of(row.nar_hash),
    narSize: row.nar_size,
    references: row.references.map(storedPath),
    deriver: row.deriver === null ? null : storedPath(row.deriver),
    signatures: row.signatures,
    ca: row.ca,
  };
}

/** Base names in rows were parsed before they were written. */
export function storedPath(baseName: string): StorePath {
  const path = parseStorePathBaseName(baseName);
  assert(path, "rows hold only base names of store paths");
  return path;
}
