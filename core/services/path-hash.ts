import { DomainError } from "../errors.ts";
import { parseStorePath, parseStorePathBaseName, storePathHash } from "../nix/store-path.ts";

const HASH = /^[0-9abcdfghijklmnpqrsvwxyz]{32}$/;

/** The hash of a store path that somebody wrote: the path, its base name or the hash. Throws `validation`. */
export function requirePathHash(text: string, what: string): string {
  if (HASH.test(text)) return text;
  const path = parseStorePath(text) ?? parseStorePathBaseName(text);
  if (path) return storePathHash(path);
  throw new DomainError("validation", `${what} must be a store path, or the 32 characters of its hash`);
}
