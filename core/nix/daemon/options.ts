import { Verbosity } from "./numbers.ts";
import type { DaemonWriter } from "./writer.ts";

/** Settings of one connection. The daemon keeps them, and every override ever sent, until the connection ends. */
export interface DaemonOptions {
  readonly keepFailed: boolean;
  readonly keepGoing: boolean;
  readonly tryFallback: boolean;
  /** One of `Verbosity`: which messages are sent at all. Log lines of builders always are. */
  readonly verbosity: number;
  /** Builds that one request may run at a time; 0 leaves only remote builders. */
  readonly maxBuildJobs: number;
  /** Seconds without a log line after which a build is ended; 0 is without end. */
  readonly maxSilentSeconds: number;
  /** `NIX_BUILD_CORES` of the builders; 0 is all of the machine. */
  readonly buildCores: number;
  readonly useSubstitutes: boolean;
  /** Names and values as in nix.conf, e.g. `timeout`. Those of a user who is not trusted are mostly ignored. */
  readonly overrides: ReadonlyMap<string, string>;
}

/** One build at a time, of what is asked for and with what is in the store: nothing is substituted. */
export const defaultDaemonOptions: DaemonOptions = {
  keepFailed: false,
  keepGoing: false,
  tryFallback: false,
  verbosity: Verbosity.info,
  maxBuildJobs: 1,
  maxSilentSeconds: 0,
  buildCores: 0,
  useSubstitutes: false,
  overrides: new Map(),
};

/** The request's fields in the order of the wire; three of them have had no meaning for long. */
export function writeOptions(writer: DaemonWriter, options: DaemonOptions): void {
  writer
    .boolean(options.keepFailed)
    .boolean(options.keepGoing)
    .boolean(options.tryFallback)
    .word(options.verbosity)
    .word(options.maxBuildJobs)
    .word(options.maxSilentSeconds)
    .boolean(true)
    .word(Verbosity.error)
    .word(0)
    .word(0)
    .word(options.buildCores)
    .boolean(options.useSubstitutes)
    .list(options.overrides, ([name, value]) => writer.text(name).text(value));
}

export function equalOptions(a: DaemonOptions, b: DaemonOptions): boolean {
  return (
    a.keepFailed === b.keepFailed &&
    a.keepGoing === b.keepGoing &&
    a.tryFallback === b.tryFallback &&
    a.verbosity === b.verbosity &&
    a.maxBuildJobs === b.maxBuildJobs &&
    a.maxSilentSeconds === b.maxSilentSeconds &&
    a.buildCores === b.buildCores &&
    a.useSubstitutes === b.useSubstitutes &&
    a.overrides.size === b.overrides.size &&
    [...a.overrides].every(([name, value]) => b.overrides.get(name) === value)
  );
}

/** Whether `next` leaves nothing of `previous` behind: an override once sent can be changed, never taken back. */
export function canReplaceOptions(previous: DaemonOptions, next: DaemonOptions): boolean {
  return [...previous.overrides.keys()].every((name) => next.overrides.has(name));
}
