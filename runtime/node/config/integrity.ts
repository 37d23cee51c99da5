import { HOUR } from "#core/lib/clock.ts";
import type { EnvironmentReader } from "./reader.ts";

/** How stored NARs are read again. */
export interface IntegritySettings {
  /** Of files, of the whole instance. 0: none is read unless somebody asks for it. */
  readonly scrubBytesPerSecond: number;
  /** Each is read once in this time, as far as the pace allows. */
  readonly scrubIntervalMs: number;
}

const MIB = 1024 * 1024;
const BYTES_MIN = 64 * 1024;

export function readIntegritySettings(reader: EnvironmentReader): IntegritySettings {
  const name = "GRADIENT_SCRUB_BYTES_PER_SECOND";
  const scrubBytesPerSecond = reader.integer(name, 8 * MIB, { min: 0, max: 2 ** 40 });
  if (scrubBytesPerSecond > 0 && scrubBytesPerSecond < BYTES_MIN) {
    reader.problems.push(`${name}=${scrubBytesPerSecond}: must be 0 (off) or at least ${BYTES_MIN}`);
  }
  const hours = reader.integer("GRADIENT_SCRUB_INTERVAL_HOURS", 720, { min: 1, max: 87_600 });
  return { scrubBytesPerSecond, scrubIntervalMs: hours * HOUR };
}
