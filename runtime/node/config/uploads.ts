import { SECOND } from "#core/lib/clock.ts";
import type { EnvironmentReader } from "./reader.ts";

/** What people may push into caches. */
export interface UploadSettings {
  /** The largest NAR file, as it is sent. */
  readonly narBytesMax: number;
  /** How long an upload in parts is kept that nobody goes on with; 0: for ever. */
  readonly unfinishedMs: number;
}

const MIB = 1024 * 1024;
const YEAR_SECONDS = 31_536_000;

export function readUploadSettings(reader: EnvironmentReader): UploadSettings {
  return {
    narBytesMax: reader.integer("GRADIENT_MAX_NAR_UPLOAD_SIZE", 512 * MIB, { min: 1_024, max: 2 ** 43 }),
    unfinishedMs: reader.integer("GRADIENT_NAR_PARTIAL_TTL_SECS", 86_400, { min: 0, max: YEAR_SECONDS }) * SECOND,
  };
}
