import type { PathBody, UploadBody } from "../api/caches-uploads.ts";
import { DomainError } from "../errors.ts";
import { type Hash, parseHash } from "../nix/hash.ts";
import { parseStorePath, parseStorePathBaseName, type StorePath } from "../nix/store-path.ts";
import type { OfferedPath } from "./cache-upload.ts";

/** A path with what its sender says of the file that its NAR comes in. */
export interface DescribedUpload {
  readonly path: OfferedPath;
  readonly fileHash: Hash | null;
  readonly fileSize: number | null;
}

/** Throws `validation`, naming the field. */
export function readOfferedPath(body: PathBody): OfferedPath {
  return {
    storePath: readStorePath(body.store_path, "store_path"),
    narHash: readSha256(body.nar_hash, "nar_hash"),
    narSize: body.nar_size,
    references: body.references.map((reference) => readStorePath(reference, "references")),
    deriver: body.deriver ? readStorePath(body.deriver, "deriver") : null,
    ca: body.ca ?? null,
    signatures: body.signatures,
  };
}

export function readUpload(body: UploadBody): DescribedUpload {
  return {
    path: readOfferedPath(body),
    fileHash: body.file_hash ? readSha256(body.file_hash, "file_hash") : null,
    fileSize: body.file_size ?? null,
  };
}

export function readStorePath(text: string, field: string): StorePath {
  const path = parseStorePath(text) ?? parseStorePathBaseName(text);
  if (!path) throw new DomainError("validation", `${field}: ${JSON.stringify(text)} is no store path`);
  return path;
}

export function readSha256(text: string, field: string): Hash {
  const hash = parseHash(text);
  if (hash?.algorithm === "sha256") return hash;
  throw new DomainError("validation", `${field}: must be a SHA-256, as \`sha256:\` and 52 characters of Nix's base 32`);
}
