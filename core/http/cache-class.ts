import type { RateTier } from "./rate-limits.ts";

/** What is known of a request to a cache before it is parsed: for what must cost next to nothing. */
export interface CacheClass {
  readonly tier: RateTier;
  /** Its pattern, for figures. */
  readonly route: string;
}

const PREFIX = "/cache/";
const NARINFO: CacheClass = hot(":hash.narinfo");
const LISTING: CacheClass = { tier: "cacheBrowse", route: "/cache/:cache/:hash.ls" };
const OTHER: CacheClass = hot("*");

/** By what stands behind the cache's name, the longest first. */
const BY_START: readonly (readonly [start: string, CacheClass])[] = [
  ["nar/upstream/", hot("nar/upstream/:upstream/:file")],
  ["nar/", hot("nar/:file")],
  ["nix-cache-info", hot("nix-cache-info")],
  ["gradient-cache-info", hot("gradient-cache-info")],
  ["log/", { tier: "cacheLog", route: "/cache/:cache/log/:derivation" }],
  ["serve/", { tier: "cacheBrowse", route: "/cache/:cache/serve/:hash/*" }],
  ["ls/", LISTING],
  ["realisations/", hot("realisations/:realisation")],
  ["debuginfo/", hot("debuginfo/:build")],
];

/** Of the target in a request's first line; null for what is not below `/cache/`. */
export function classifyCacheTarget(target: string): CacheClass | null {
  if (!target.startsWith(PREFIX)) return null;
  if (target.endsWith(".narinfo")) return NARINFO;
  const slash = target.indexOf("/", PREFIX.length);
  if (slash < 0) return OTHER;
  for (const [start, found] of BY_START) if (target.startsWith(start, slash + 1)) return found;
  if (target.endsWith(".ls")) return LISTING;
  return OTHER;
}

function hot(route: string): CacheClass {
  return { tier: "cacheHot", route: `/cache/:cache/${route}` };
}
