import type { StorePath } from "../store-path.ts";
import { readStorePath, readStorePaths } from "./path-info.ts";
import type { DaemonReader } from "./reader.ts";

/** What a build would take, by the daemon's own reckoning. */
export interface MissingPaths {
  /** Derivations. */
  readonly willBuild: readonly StorePath[];
  readonly willSubstitute: readonly StorePath[];
  /** Neither in the store nor known to a substituter. */
  readonly unknown: readonly StorePath[];
  readonly downloadBytes: number;
  readonly narBytes: number;
}

/** Something that keeps a path alive: a link, or `{temp:PID}` for a process that uses it. */
export interface GcRoot {
  readonly link: string;
  readonly target: StorePath;
}

export async function readMissingPaths(reader: DaemonReader): Promise<MissingPaths> {
  return {
    willBuild: await readStorePaths(reader, "derivations to build"),
    willSubstitute: await readStorePaths(reader, "paths to substitute"),
    unknown: await readStorePaths(reader, "unknown paths"),
    downloadBytes: await reader.number("download size"),
    narBytes: await reader.number("NAR size"),
  };
}

export async function readGcRoot(reader: DaemonReader): Promise<GcRoot> {
  return { link: await reader.text("root"), target: await readStorePath(reader, "target of root") };
}
