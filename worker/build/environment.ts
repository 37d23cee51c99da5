import type { Clock } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { Signer } from "../signing-key.ts";
import { SharedFetches } from "../store/shared-fetches.ts";
import type { MeterOptions } from "./build-meter.ts";
import { GcRoots } from "./gc-roots.ts";
import type { LogLimits } from "./log-limiter.ts";
import { OutputLocks } from "./output-locks.ts";

export interface BuildEnvironmentOptions {
  /**
   * A build holds one connection while it lasts, and moving paths takes further ones: the pool must have more places
   * than builds run at a time, or they wait for each other.
   */
  readonly pool: DaemonPool;
  /** Where each running build has its GC roots, as links. Empty: they are held by open connections alone. */
  readonly gcRootsDir: string;
  /** For `NIX_BUILD_CORES`. Null: all of the machine. */
  readonly cores: number | null;
  readonly logLimits: LogLimits;
  readonly metering: Omit<MeterOptions, "clock">;
  /** Signs the outputs. Null for a worker that does not sign. */
  readonly signer: Signer | null;
  /** Prefix of the store's files on this machine; empty unless the store lives in a folder of its own. */
  readonly storeRoot: string;
  readonly log: Logger;
  readonly clock: Clock;
}

/** What the builds in one store share. A store is a trust domain: what one build brings in, the others may use. */
export interface BuildEnvironment extends BuildEnvironmentOptions {
  readonly roots: GcRoots;
  readonly outputLocks: OutputLocks;
  readonly fetches: SharedFetches;
}

export function createBuildEnvironment(options: BuildEnvironmentOptions): BuildEnvironment {
  return {
    ...options,
    roots: new GcRoots(options.gcRootsDir, options),
    outputLocks: new OutputLocks(),
    fetches: new SharedFetches(),
  };
}
