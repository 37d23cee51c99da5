import type { BuildResult } from "#core/nix/daemon/build.ts";
import { DaemonConnectionError, DaemonError, DaemonProtocolError } from "#core/nix/daemon/errors.ts";
import type { FailureClass } from "#core/protocol/worker-messages.ts";
import { NarSizeError } from "../daemon/nar.ts";
import { DaemonPoolClosedError, DaemonPoolTimeoutError } from "../daemon/pool.ts";
import { UploadRefusedError } from "../link.ts";
import { decisiveLines, withoutRepeatedLog } from "./daemon-message.ts";
import { BuildFailure } from "./failure.ts";

/** What is known of a build that ended, beside what the daemon says. */
export interface BuildCircumstances {
  readonly timeoutMs: number;
  readonly maxSilentMs: number;
  /** Since the builder was last heard of. */
  readonly silentMs: number;
  readonly phase: string | null;
}

/** Why a build by the daemon did not succeed: by its status first, and by its own words where that says little. */
export function failureOfResult(result: BuildResult, circumstances: BuildCircumstances): BuildFailure {
  if (result.status === "timed-out") return timeoutFailure(result.message, circumstances);
  const failureClass = resourceClass(result.message) ?? classOfStatus(result);
  const said = decisiveLines(result.message) || `the nix-daemon reports ${result.status} and no reason`;
  const phase = circumstances.phase && /^builder failed\b/.test(said) ? ` (in ${circumstances.phase})` : "";
  return new BuildFailure(failureClass, explain(failureClass, said + phase));
}

/** Why a step of the attempt threw. */
export function failureOfError(error: unknown): BuildFailure {
  if (error instanceof BuildFailure) return error;
  if (error instanceof DaemonError) {
    const failureClass = resourceClass(error.message) ?? "transient";
    return new BuildFailure(failureClass, explain(failureClass, decisiveLines(error.message)), { cause: error });
  }
  if (error instanceof DaemonPoolClosedError) return new BuildFailure("aborted", "the worker is stopping");
  if (error instanceof UploadRefusedError) {
    return new BuildFailure("transient", `the server refused an output: ${error.message}`, { cause: error });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new BuildFailure(codeClass(error) ?? "transient", message, { cause: error });
}

/** Whether the error is one that this code foresees; others are faults of the worker that its log should have whole. */
export function isForeseen(error: unknown): boolean {
  return [
    BuildFailure,
    DaemonError,
    DaemonConnectionError,
    DaemonProtocolError,
    DaemonPoolClosedError,
    DaemonPoolTimeoutError,
    NarSizeError,
    UploadRefusedError,
  ].some((kind) => error instanceof kind);
}

function classOfStatus({ status, message }: BuildResult): FailureClass {
  switch (status) {
    case "permanent-failure":
      return /failed due to signal (?:1|2|15)\b/.test(withoutRepeatedLog(message)) ? "transient" : "permanent";
    // A hash that differs, an output that was not made, a reference that is not allowed: the same every time.
    case "output-rejected":
    case "cached-failure":
    case "log-limit-exceeded":
    case "not-deterministic":
      return "permanent";
    case "timed-out":
      return "timeout";
    // A wrong system or a missing feature is this worker's, not the build's; another worker may have it. A dependency
    // that is not there was collected in the meantime.
    case "input-rejected":
    case "dependency-failed":
    case "transient-failure":
    case "misc-failure":
    case "no-substituters":
    case "unknown":
      return "transient";
    case "built":
    case "substituted":
    case "already-valid":
    case "resolves-to-already-valid":
      return "transient";
  }
}

/** Exhausted resources, by the daemon's words and never by the builder's. */
function resourceClass(message: string): FailureClass | null {
  const own = withoutRepeatedLog(message);
  if (/no space left on device|lack of free disk space|disk quota exceeded|not enough free disk space/i.test(own)) {
    return "disk_full";
  }
  if (/cannot allocate memory|out of memory|std::bad_alloc/i.test(own)) return "out_of_memory";
  // Nobody but the kernel sends a builder SIGKILL while the daemon still waits for it.
  if (/^[^\n]*builder[^\n]* failed due to signal 9\b|Reason: builder failed due to signal 9\b/.test(own)) {
    return "out_of_memory";
  }
  return null;
}

function codeClass(error: unknown): FailureClass | null {
  const code = error instanceof Error && "code" in error ? error.code : null;
  if (code === "ENOSPC" || code === "EDQUOT") return "disk_full";
  return code === "ENOMEM" ? "out_of_memory" : null;
}

function explain(failureClass: FailureClass, said: string): string {
  if (failureClass === "out_of_memory") return `the worker ran out of memory: ${said}`;
  if (failureClass === "disk_full") return `the worker's disk is full: ${said}`;
  if (/experimental Nix feature 'ca-derivations' is disabled/.test(said)) {
    return `${said}\nthe nix-daemon of the worker must have ca-derivations among its experimental-features`;
  }
  if (/lacks a.* signature|not privileged to build/.test(said)) {
    return `${said}\nthe worker must be in the trusted-users of its nix-daemon`;
  }
  return said;
}

/** Nix 2.34 no longer says which limit it was; the number of seconds and the builder's silence do. */
function timeoutFailure(message: string, { timeoutMs, maxSilentMs, silentMs }: BuildCircumstances): BuildFailure {
  const seconds = /timed out after (\d+) second/.exec(message)?.[1];
  const [wall, silence] = [timeoutMs, maxSilentMs].map((ms) => secondsOf(ms));
  const couldBeWall = timeoutMs > 0 && (seconds === undefined || Number(seconds) === wall);
  const couldBeSilence = maxSilentMs > 0 && (seconds === undefined || Number(seconds) === silence);
  const wasSilent = /of silence/.test(message) || (couldBeSilence && (!couldBeWall || silentMs >= maxSilentMs - 500));
  return wasSilent ? silentTimeout(maxSilentMs) : wallTimeout(timeoutMs);
}

export function wallTimeout(timeoutMs: number): BuildFailure {
  return new BuildFailure("timeout", `the build took longer than the ${secondsOf(timeoutMs)} s it is allowed`);
}

export function silentTimeout(maxSilentMs: number): BuildFailure {
  const message = `the builder wrote nothing for ${secondsOf(maxSilentMs)} s, the longest silence that is allowed`;
  return new BuildFailure("silent_timeout", message);
}

/** The daemon counts in whole seconds, and 0 is no limit. */
export function secondsOf(ms: number): number {
  return Math.ceil(ms / 1_000);
}
