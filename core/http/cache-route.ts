import type { Bytes } from "../lib/bytes.ts";
import { decodeBase32 } from "../nix/base32.ts";
import { parseStorePathBaseName, type StorePath } from "../nix/store-path.ts";

/** What clients ask a cache for, checked to the last character. `hash` is the 32 characters of a store path. */
export type CacheRoute = { readonly cache: string } & (
  | { readonly kind: "info" | "gradientInfo" }
  | { readonly kind: "narinfo" | "listing"; readonly hash: string }
  | { readonly kind: "nar"; readonly fileHash: Bytes }
  | { readonly kind: "relayedNar"; readonly file: RelayedFile }
  | { readonly kind: "log"; readonly derivation: StorePath }
  | { readonly kind: "debugInfo"; readonly buildId: string }
  | { readonly kind: "realisation"; readonly derivation: string; readonly output: string }
  | { readonly kind: "file"; readonly hash: string; readonly file: FilePath }
);
export type RouteKind = CacheRoute["kind"];

/** A file of an upstream, by the name that the upstream gave it. */
export interface RelayedFile {
  readonly upstreamId: string;
  /** As it was sent, with its query. No segment of it is `.` or `..`, percent-encoded neither. */
  readonly path: string;
}

/** Names below a store path, from its root. None is empty, `.` or `..`, or holds a slash or a NUL. */
export interface FilePath {
  readonly names: readonly string[];
  /** Asked for with a slash at the end. */
  readonly asFolder: boolean;
}

type Below = CacheRoute extends infer Route ? (Route extends CacheRoute ? Omit<Route, "cache"> : never) : never;
type Reader = (match: RegExpExecArray, query: string) => Below | null;

const PREFIX = "/cache/";
const CACHE = /^\/cache\/([a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?)\//;
/** Of nix base 32. */
const HASH = "[0-9a-df-np-sv-z]{32}";
const FILE_HASH = "[0-9a-df-np-sv-z]{52}";
const UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
/** Linux has no longer path; each byte of it takes three characters at most. */
const PATH_BYTES_MAX = 4096;
const ENCODED_LENGTH_MAX: number = 3 * PATH_BYTES_MAX;
const RELAYED_LENGTH_MAX = 1024;
const OUTPUT_NAME = /^(sha256:[0-9a-f]{64})!([0-9a-zA-Z+\-._?=]{1,211})\.doi$/;

/** In the order of how often they are asked for. */
const READERS: readonly (readonly [RegExp, Reader])[] = [
  [new RegExp(`^(${HASH})\\.narinfo$`), ([, hash]) => ({ kind: "narinfo", hash: hash as string })],
  [new RegExp(`^nar/(${FILE_HASH})\\.nar\\.zst$`), readNar],
  [/^nix-cache-info$/, () => ({ kind: "info" })],
  [
    new RegExp(`^(?:(${HASH})\\.ls|ls/(${HASH}))$`),
    ([, hash, other]) => ({ kind: "listing", hash: hash ?? other ?? "" }),
  ],
  [/^log\/([^/]{1,1000})$/, readLog],
  [/^debuginfo\/([0-9a-f]{40})(?:\.debug)?$/, ([, buildId]) => ({ kind: "debugInfo", buildId: buildId as string })],
  [new RegExp(`^serve/(${HASH})((?:/.*)?)$`), readFile],
  [new RegExp(`^nar/upstream/(${UUID})/([!-~]{1,${RELAYED_LENGTH_MAX}})$`), readRelayed],
  [/^realisations\/([^/]{1,1000})$/, readRealisation],
  [/^gradient-cache-info$/, () => ({ kind: "gradientInfo" })],
];

/** The path of an absolute URL as it was sent: nothing decoded, no query. */
export function rawPath(url: string): string {
  return splitUrl(url).path;
}

/** The path and the query (with its question mark, or empty) of an absolute URL, nothing decoded. */
export function splitUrl(url: string): { readonly path: string; readonly query: string } {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  if (start < 0) return { path: "/", query: "" };
  const fragment = url.indexOf("#", start);
  const end = fragment < 0 ? url.length : fragment;
  const mark = url.indexOf("?", start);
  if (mark < 0 || mark > end) return { path: url.slice(start, end), query: "" };
  return { path: url.slice(start, mark), query: url.slice(mark, end) };
}

export function isCachePath(path: string): boolean {
  return path.startsWith(PREFIX);
}

/** Null for every other path below `/cache/`. It never throws. */
export function parseCacheRoute(path: string, query = ""): CacheRoute | null {
  const [prefix, cache] = CACHE.exec(path) ?? [];
  if (prefix === undefined || cache === undefined) return null;
  const rest = path.slice(prefix.length);
  for (const [pattern, read] of READERS) {
    const match = pattern.exec(rest);
    if (!match) continue;
    const below = read(match, query);
    return below && { ...below, cache };
  }
  return null;
}

function readNar([, file]: RegExpExecArray): Below | null {
  const fileHash = decodeBase32(file as string);
  return fileHash && { kind: "nar", fileHash };
}

/** Newer Nix sends `+`, `?` and `=` percent-encoded. */
function readLog([, name]: RegExpExecArray): Below | null {
  const derivation = parseStorePathBaseName(decoded(name as string) ?? "");
  return derivation?.endsWith(".drv") ? { kind: "log", derivation } : null;
}

/** `sha256:<hex>!<output>.doi`; newer Nix sends the `!` percent-encoded. */
function readRealisation([, name]: RegExpExecArray): Below | null {
  const [, derivation, output] = OUTPUT_NAME.exec(decoded(name as string) ?? "") ?? [];
  return derivation && output ? { kind: "realisation", derivation, output } : null;
}

function readFile([, hash, path = ""]: RegExpExecArray): Below | null {
  if (path.length > ENCODED_LENGTH_MAX) return null;
  const asFolder = path.endsWith("/");
  const [, ...segments] = (asFolder ? path.slice(0, -1) : path).split("/");
  const names: string[] = [];
  for (const segment of segments) {
    const name = decoded(segment);
    if (name === null || name === "" || name === "." || name === ".." || /[/\0]/.test(name)) return null;
    names.push(name);
  }
  return { kind: "file", hash: hash as string, file: { names, asFolder } };
}

function readRelayed([, upstreamId, path]: RegExpExecArray, query: string): Below | null {
  const isPlain = (path as string).split("/").every((segment) => {
    const name = decoded(segment);
    return name !== null && name !== "." && name !== ".." && !/[/\\\0]/.test(name);
  });
  if (!isPlain || query.length > RELAYED_LENGTH_MAX) return null;
  return { kind: "relayedNar", file: { upstreamId: upstreamId as string, path: `${path}${query}` } };
}

/** Null where the percent-encoding is none, or not that of UTF-8. */
function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
