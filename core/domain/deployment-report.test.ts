import fc from "fast-check";
import { expect, test } from "vitest";
import { DAY, HOUR } from "../lib/clock.ts";
import { type HostView, healthySince, type RunView, rollbackPaths, standingOf } from "./deployment-report.ts";

const host = (more: Partial<HostView> = {}): HostView => ({
  runId: "run-2",
  sequence: 4,
  seenAt: 100 * DAY,
  runningPath: "new",
  healthySince: new Date(5),
  runningSince: new Date(1),
  ...more,
});
const run = (...sequences: number[]): RunView => ({ sequence: Math.max(...sequences), sequences });
const report = (runId: string, sequence: number, happenedAt = 100 * DAY) => ({ runId, sequence, happenedAt });

test("what came before changes nothing, however often it is sent", () => {
  expect(standingOf(host(), run(0, 4), report("run-2", 4))).toBe("known");
  expect(standingOf(host(), run(0, 1), report("run-1", 1))).toBe("known");
  // A run that only said that all is well has no history to look into.
  expect(standingOf(host(), null, report("run-2", 4))).toBe("known");
});

test("a newer step is the host's state; an older one of the same or another run only fills the history", () => {
  expect(standingOf(host({ runId: null, seenAt: null }), null, report("run-1", 0))).toBe("newest");
  expect(standingOf(host(), run(0, 4), report("run-2", 5))).toBe("newest");
  expect(standingOf(host(), run(0, 4), report("run-2", 3))).toBe("late");
  expect(standingOf(host(), run(0, 1), report("run-1", 9))).toBe("late");
  expect(standingOf(host(), null, report("run-3", 0))).toBe("newest");
  expect(standingOf(host(), null, report("run-0", 0, 100 * DAY - HOUR))).toBe("late");
  // A machine whose clock began anew.
  expect(standingOf(host(), null, report("run-3", 0, 0))).toBe("newest");
});

test("in whatever order the steps of a run come, the last one stands", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 30 }), (sequences) => {
      let view = host({ runId: null, sequence: 0, seenAt: null });
      const seen: number[] = [];
      for (const sequence of sequences) {
        const standing = standingOf(view, seen.length > 0 ? run(...seen) : null, report("run", sequence));
        expect(standing === "known").toBe(seen.includes(sequence));
        if (standing === "newest") view = { ...view, runId: "run", sequence };
        if (standing !== "known") seen.push(sequence);
      }
      expect(view.sequence).toBe(Math.max(...sequences));
    }),
  );
});

test("health counts from when it began on the system that runs", () => {
  const now = new Date(9);
  expect(healthySince(host(), { runningPath: "new", health: "healthy" }, now)).toEqual(new Date(5));
  expect(healthySince(host(), { runningPath: null, health: "unknown" }, now)).toEqual(new Date(5));
  expect(healthySince(host(), { runningPath: "other", health: "healthy" }, now)).toEqual(now);
  expect(healthySince(host(), { runningPath: "other", health: "unknown" }, now)).toBe(null);
  expect(healthySince(host(), { runningPath: "new", health: "unhealthy" }, now)).toBe(null);
  expect(healthySince(host({ healthySince: null }), { runningPath: "new", health: "healthy" }, now)).toEqual(now);
});

test("a host can go back to what it ran before, and to nothing that it runs", () => {
  const max = 2;
  expect(rollbackPaths([], { before: "a", now: "b", max })).toEqual(["a"]);
  expect(rollbackPaths(["a"], { before: "b", now: "c", max })).toEqual(["b", "a"]);
  expect(rollbackPaths(["b", "a"], { before: "c", now: "d", max })).toEqual(["c", "b"]);
  expect(rollbackPaths(["b", "a"], { before: "c", now: "b", max })).toEqual(["c", "a"]);
  expect(rollbackPaths(["a"], { before: "b", now: "b", max })).toEqual(["a"]);
  expect(rollbackPaths(["a"], { before: null, now: "b", max })).toEqual(["a"]);
});
