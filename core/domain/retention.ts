import { HOUR } from "../lib/clock.ts";

/** What the operator decides about what is kept. Times are milliseconds. */
export interface RetentionSettings {
  /** How long a path without a root stays after it was used last; 0: nothing goes for lack of use. */
  readonly unusedMs: number;
  /** The most evaluations of a project that stay, whatever the project says; 0: as many as it says. */
  readonly keepEvaluations: number;
  /** How long a build stays that no evaluation links any more. */
  readonly orphanBuildMs: number;
  /** How long stays what no row names: objects on their way in, and NARs that no path names yet. */
  readonly uploadGraceMs: number;
  /** How long the systems of a host stay that was not heard of. */
  readonly silentHostMs: number;
}

export const RETENTION_DEFAULTS: RetentionSettings = {
  unusedMs: 336 * HOUR,
  keepEvaluations: 5,
  orphanBuildMs: 24 * HOUR,
  uploadGraceMs: 24 * HOUR,
  silentHostMs: 90 * 24 * HOUR,
};

/**
 * How long a new path stays whatever else holds: whoever pushes a closure and pins it afterwards has that long, and
 * each server writes down in a fraction of it what it was asked for.
 */
export const FRESH_PATH_MS: number = HOUR;

/** Bytes of the unit that a cache's limit is set in. */
export const GIGABYTE = 1_000_000_000;
/** From here on a cache is made smaller: before it is full, because evaluations wait for a cache that is. */
const FULL_SHARE = 0.95;
const TARGET_SHARE = 0.9;

/** How many bytes have to go from a cache that holds so many; 0 below its limit, or without one. */
export function bytesToFree(heldBytes: number, maxStorageGb: number): number {
  const limitBytes = maxStorageGb * GIGABYTE;
  if (maxStorageGb === 0 || heldBytes <= limitBytes * FULL_SHARE) return 0;
  return Math.ceil(heldBytes - limitBytes * TARGET_SHARE);
}

/** How long a path without a root must have been unused to be looked at; null: no path of the cache goes. */
export function idleMsMin(settings: Pick<RetentionSettings, "unusedMs">, freeBytes: number): number | null {
  if (freeBytes > 0) return FRESH_PATH_MS;
  return settings.unusedMs > 0 ? Math.max(settings.unusedMs, FRESH_PATH_MS) : null;
}
