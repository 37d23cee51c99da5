import { LOG_LIMITS, type LogLimits } from "./build/log-limiter.ts";
import type { ConfigReader } from "./config-reader.ts";

/** How this worker builds. */
export interface BuildSettings {
  readonly buildsMax: number;
  /** `NIX_BUILD_CORES` of each build. Null: all of the machine. */
  readonly buildCoresMax: number | null;
  /** Bytes that one build may log. */
  readonly logLimits: LogLimits;
  readonly metering: {
    /** Whether memory and IO are looked at while a build runs; its processor time is known without. */
    readonly sampling: boolean;
    /** Where the unified hierarchy of cgroups is mounted. */
    readonly cgroupRoot: string;
  };
  /** All organizations work in the machine's store. */
  readonly sharedStore: boolean;
  /** Absolute. Null: the worker makes a key in its data folder, when it has to sign. */
  readonly signingKeyFile: string | null;
}

const BYTES_MIN = 1024;
const BYTES_MAX: number = 2 ** 40;

export function readBuildSettings(reader: ConfigReader): BuildSettings {
  const cores = reader.integer("GRADIENT_WORKER_MAX_BUILD_CORES", 0, { min: 0, max: 4096 });
  const bytes = (name: string, fallback: number) => reader.integer(name, fallback, { min: BYTES_MIN, max: BYTES_MAX });
  return {
    buildsMax: reader.integer("GRADIENT_MAX_CONCURRENT_BUILDS", 100, { min: 1, max: 10_000 }),
    buildCoresMax: cores === 0 ? null : cores,
    logLimits: {
      bytesPerMinute: bytes("GRADIENT_LOG_BURST_BYTES_PER_MIN", LOG_LIMITS.bytesPerMinute),
      bytesPerHour: bytes("GRADIENT_LOG_SUSTAINED_BYTES_PER_HOUR", LOG_LIMITS.bytesPerHour),
    },
    metering: {
      sampling: reader.boolean("GRADIENT_WORKER_BUILD_METRICS", false),
      cgroupRoot: reader.absolutePath("GRADIENT_WORKER_BUILD_CGROUP_ROOT", "/sys/fs/cgroup"),
    },
    sharedStore: reader.boolean("GRADIENT_WORKER_SHARED_STORE", false),
    signingKeyFile: reader.absolutePath("GRADIENT_WORKER_SIGNING_KEY_FILE", "") || null,
  };
}
