import { describe, expect, test } from "vitest";
import type { BuildResult, BuildStatus } from "#core/nix/daemon/build.ts";
import { DaemonError } from "#core/nix/daemon/errors.ts";
import { type BuildCircumstances, failureOfError, failureOfResult } from "./classify.ts";
import { decisiveLines } from "./daemon-message.ts";

function resultOf(status: BuildStatus, message: string): BuildResult {
  return {
    status,
    statusCode: 0,
    success: false,
    message,
    rawMessage: message,
    isNonDeterministic: false,
    timesBuilt: 0,
    startTimeSeconds: 0,
    stopTimeSeconds: 0,
    cpuUserMicroseconds: null,
    cpuSystemMicroseconds: null,
    builtOutputs: [],
  };
}

const unlimited: BuildCircumstances = { timeoutMs: 0, maxSilentMs: 0, silentMs: 0, phase: null };
const DRV = "/nix/store/jb2d924p8xmpr06lpd2v6bn1bg4p9rmm-fail.drv";
const LOG_TAIL = "last 2 log lines:\n> Cannot allocate memory\n> No space left on device";

/** As Nix 2.8 and as Nix 2.30 and later put it. */
function failed(reason: string): [old: string, recent: string] {
  return [
    `builder for '${DRV}' ${reason};\n${LOG_TAIL}\nFor full logs, run 'nix log ${DRV}'.`,
    `Cannot build '${DRV}'.\n       Reason: builder ${reason}.\n       Output paths:\n         ${DRV.slice(0, -4)}\n` +
      `       L${LOG_TAIL.slice(1).replaceAll("\n", "\n       ")}\n       For full logs, run:\n         nix log ${DRV}`,
  ];
}

describe.each([0, 1] as const)("the words of Nix (form %i)", (form) => {
  test("only the reason is left of a message", () => {
    expect(decisiveLines(failed("failed with exit code 3")[form])).toBe("builder failed with exit code 3");
  });

  test("lines that the builder wrote decide nothing", () => {
    const failure = failureOfResult(resultOf("permanent-failure", failed("failed with exit code 3")[form]), unlimited);
    expect(failure).toMatchObject({ failureClass: "permanent", message: "builder failed with exit code 3" });
  });

  test.each([
    ["failed due to signal 9 (Killed)", "out_of_memory"],
    ["failed due to signal 15 (Terminated)", "transient"],
    ["failed due to signal 11 (Segmentation fault)", "permanent"],
  ])("a builder that %s is %s", (reason, failureClass) => {
    const failure = failureOfResult(resultOf("permanent-failure", failed(reason)[form]), unlimited);
    expect(failure.failureClass).toBe(failureClass);
  });
});

test("a full disk is known by the daemon's note", () => {
  const note = "note: build failure may have been caused by lack of free disk space";
  const message = `${failed("failed with exit code 1")[0]}\n${note}`;
  expect(failureOfResult(resultOf("transient-failure", message), unlimited).failureClass).toBe("disk_full");
});

test.each<[BuildStatus, string]>([
  ["output-rejected", "permanent"],
  ["cached-failure", "permanent"],
  ["log-limit-exceeded", "permanent"],
  ["not-deterministic", "permanent"],
  ["input-rejected", "transient"],
  ["transient-failure", "transient"],
  ["misc-failure", "transient"],
  ["dependency-failed", "transient"],
  ["unknown", "transient"],
])("without a telling message %s is %s", (status, failureClass) => {
  const failure = failureOfResult(resultOf(status, ""), unlimited);
  expect(failure).toMatchObject({ failureClass, message: expect.stringContaining(status) });
});

test.each<[string, Partial<BuildCircumstances>, string]>([
  ["timed out after 60 seconds of silence", { timeoutMs: 60_000, maxSilentMs: 60_000 }, "silent_timeout"],
  ["timed out after 60 seconds", { timeoutMs: 60_000, maxSilentMs: 90_000, silentMs: 60_000 }, "timeout"],
  ["timed out after 90 seconds", { timeoutMs: 60_000, maxSilentMs: 90_000, silentMs: 0 }, "silent_timeout"],
  ["timed out after 60 seconds", { timeoutMs: 60_000, maxSilentMs: 60_000, silentMs: 100 }, "timeout"],
  ["timed out after 60 seconds", { timeoutMs: 60_000, maxSilentMs: 60_000, silentMs: 59_900 }, "silent_timeout"],
  ["", { timeoutMs: 60_000 }, "timeout"],
])("%j with %j is a %s", (message, circumstances, failureClass) => {
  const failure = failureOfResult(resultOf("timed-out", message), { ...unlimited, ...circumstances });
  expect(failure.failureClass).toBe(failureClass);
});

test("a worker that its daemon does not trust is told what to do", () => {
  const message = "you are not privileged to build input-addressed derivations";
  const failure = failureOfError(new DaemonError({ level: 0, message, traces: [] }));
  expect(failure).toMatchObject({ failureClass: "transient", message: expect.stringContaining("trusted-users") });
});
