import type { Bytes } from "../lib/bytes.ts";
import { decodeBase32 } from "../nix/base32.ts";

/** What a Nix client asks a cache for, checked to the last character. */
export type CacheRoute =
  | { readonly kind: "info"; readonly cache: string }
  | { readonly kind: "narinfo"; readonly cache: string; readonly hash: string }
  | { readonly kind: "nar"; readonly cache: string; readonly fileHash: Bytes };

const PREFIX = "/cache/";
/** Of nix base 32. Percent-encoding, dots and further slashes have no place in any of these names. */
const ROUTE =
  /^\/cache\/([a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?)\/(?:(nix-cache-info)|([0-9a-df-np-sv-z]{32})\.narinfo|nar\/([0-9a-df-np-sv-z]{52})\.nar\.zst)$/;

/** The path of an absolute URL as it was sent: nothing decoded, no query. */
export function rawPath(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  if (start < 0) return "/";
  const end = url.slice(start).search(/[?#]/);
  return end < 0 ? url.slice(start) : url.slice(start, start + end);
}

export function isCachePath(path: string): boolean {
  return path.startsWith(PREFIX);
}

/** Null for every other path below `/cache/`. */
export function parseCacheRoute(path: string): CacheRoute | null {
  const match = ROUTE.exec(path);
  if (!match) return null;
  const [, cache = "", info, hash, file] = match;
  if (info) return { kind: "info", cache };
  if (hash) return { kind: "narinfo", cache, hash };
  const fileHash = decodeBase32(file as string);
  return fileHash && { kind: "nar", cache, fileHash };
}
