import { RETENTION_DEFAULTS, type RetentionSettings } from "#core/domain/retention.ts";
import { HOUR, SECOND } from "#core/lib/clock.ts";
import type { EnvironmentReader } from "./reader.ts";

export interface RetentionConfig extends Omit<RetentionSettings, "keepEvaluations"> {
  /** Between two sweeps. */
  readonly intervalMs: number;
}

/** A hundred years. */
const HOURS_MAX = 876_000;
const DAY_SECONDS = 86_400;

export function readRetentionConfig(reader: EnvironmentReader): RetentionConfig {
  const hours = (name: string, fallbackMs: number, min: number): number =>
    reader.integer(name, fallbackMs / HOUR, { min, max: HOURS_MAX }) * HOUR;
  const seconds = { min: 60, max: 30 * DAY_SECONDS };
  return {
    unusedMs: hours("GRADIENT_NAR_TTL_HOURS", RETENTION_DEFAULTS.unusedMs, 0),
    orphanBuildMs: hours("GRADIENT_KEEP_ORPHAN_DERIVATIONS_HOURS", RETENTION_DEFAULTS.orphanBuildMs, 0),
    uploadGraceMs: hours("GRADIENT_NAR_UPLOAD_GRACE_HOURS", RETENTION_DEFAULTS.uploadGraceMs, 1),
    silentHostMs: hours("GRADIENT_KEEP_SILENT_HOSTS_HOURS", RETENTION_DEFAULTS.silentHostMs, 0),
    intervalMs: reader.integer("GRADIENT_CACHE_MAINTENANCE_INTERVAL_SECS", 3_600, seconds) * SECOND,
  };
}
