import { expect, test } from "vitest";
import { attemptReason, DEFAULT_RETRY_POLICY, decideFailure, isLostTooOften } from "./failure.ts";
import { AttemptReason, BuildStatus } from "./states.ts";

const policy = { attemptsMax: 4, backoffMs: 1_000 };

test("a builder that failed by itself fails for good at once, and so does what took too long", () => {
  expect(decideFailure("permanent", 0, policy)).toEqual({ status: BuildStatus.FailedPermanent, deterministic: true });
  for (const failure of ["timeout", "silent_timeout"] as const) {
    expect(decideFailure(failure, 0, policy)).toEqual({ status: BuildStatus.FailedTimeout });
  }
});

test("what may go better next time waits twice as long each time, and fails for good at the limit", () => {
  const pauses = [
    ["transient", 1_000],
    ["inputs_unavailable", 1_000],
    ["out_of_memory", 2_000],
    ["disk_full", 4_000],
  ] as const;
  for (const [failure, pauseMs] of pauses) {
    expect([0, 1, 2, 3].map((times) => decideFailure(failure, times, policy))).toEqual([
      { status: BuildStatus.FailedTransient, retryInMs: pauseMs },
      { status: BuildStatus.FailedTransient, retryInMs: 2 * pauseMs },
      { status: BuildStatus.FailedTransient, retryInMs: 4 * pauseMs },
      { status: BuildStatus.FailedPermanent, deterministic: false },
    ]);
  }
});

test("no pause is longer than an hour", () => {
  const decision = decideFailure("transient", 5_000, { attemptsMax: 10_000, backoffMs: 30_000 });
  expect(decision).toEqual({ status: BuildStatus.FailedTransient, retryInMs: 3_600_000 });
});

test("a policy of one attempt fails at the first", () => {
  const decision = decideFailure("transient", 0, { ...DEFAULT_RETRY_POLICY, attemptsMax: 1 });
  expect(decision).toEqual({ status: BuildStatus.FailedPermanent, deterministic: false });
});

test("what a worker stopped for reasons of its own is given back, however often", () => {
  expect(decideFailure("aborted", 0, policy)).toBe("give_back");
  expect(decideFailure("aborted", 100, policy)).toBe("give_back");
});

test("each tenth lost attempt is one too many", () => {
  const numbers = Array.from({ length: 30 }, (_, index) => index + 1);
  expect(numbers.filter((begun) => isLostTooOften({ begun, idle: 0 }, "begun"))).toEqual([10, 20, 30]);
});

test("ten attempts that were lost before they began are as many as one that had begun", () => {
  const numbers = Array.from({ length: 300 }, (_, index) => index + 1);
  expect(numbers.filter((idle) => isLostTooOften({ begun: 0, idle }, "idle"))).toEqual([100, 200, 300]);
  expect(numbers.filter((idle) => isLostTooOften({ begun: 9, idle }, "idle"))).toEqual([10, 110, 210]);
  expect(isLostTooOften({ begun: 10, idle: 5 }, "begun")).toBe(true);
  // It was restarted after it was given up: the next one that stood by is no end.
  expect(isLostTooOften({ begun: 10, idle: 5 }, "idle")).toBe(false);
});

test("the reason is recorded where the failure names one", () => {
  expect(attemptReason("permanent")).toBe(AttemptReason.BuilderNonzero);
  expect(attemptReason("silent_timeout")).toBe(AttemptReason.SilentTimeout);
  expect(attemptReason("timeout")).toBe(AttemptReason.WallClockTimeout);
  expect(attemptReason("inputs_unavailable")).toBe(AttemptReason.InputsUnavailable);
  expect(attemptReason("out_of_memory")).toBe(AttemptReason.OutOfMemory);
  expect(attemptReason("disk_full")).toBe(AttemptReason.DiskFull);
  expect(attemptReason("transient")).toBeNull();
});
