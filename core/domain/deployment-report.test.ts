import fc from "fast-check";
import { expect, test } from "vitest";
import { DAY, HOUR, SECOND } from "../lib/clock.ts";
import { healthySince, type ReportedHost, type RunView, reportStanding, rollbackPaths } from "./deployment-report.ts";

const host = (more: Partial<ReportedHost> = {}): ReportedHost => ({
  runId: "run-2",
  sequence: 4,
  seenAt: 100 * DAY,
  runningPath: "new",
  healthySince: new Date(5),
  runningSince: new Date(1),
  ...more,
});
const run = (...sequences: number[]): RunView => ({
  sequence: Math.max(...sequences),
  sequences,
  beganAt: 100 * DAY,
  firstCameAt: 100 * DAY,
});
const report = (runId: string, sequence: number, happenedAt = 100 * DAY) => ({
  runId,
  sequence,
  happenedAt,
  cameAt: 100 * DAY,
  isEnd: false,
  isAlone: false,
  isUnhealthy: false,
});

test("what came before changes nothing, however often it is sent", () => {
  expect(reportStanding(host(), run(0, 4), report("run-2", 4))).toBe("known");
  expect(reportStanding(host(), run(0, 1), report("run-1", 1))).toBe("known");
  // A run that only said that all is well has no history to look into.
  expect(reportStanding(host(), null, report("run-2", 4))).toBe("known");
});

test("a newer step is the host's state; an older one of the same or another run only fills the history", () => {
  expect(reportStanding(host({ runId: null, seenAt: null }), null, report("run-1", 0))).toBe("newest");
  expect(reportStanding(host(), run(0, 4), report("run-2", 5))).toBe("newest");
  expect(reportStanding(host(), run(0, 4), report("run-2", 3))).toBe("late");
  expect(reportStanding(host(), run(0, 1), report("run-1", 9))).toBe("late");
  expect(reportStanding(host(), null, report("run-3", 0))).toBe("newest");
  expect(reportStanding(host(), null, report("run-0", 0, 100 * DAY - HOUR))).toBe("late");
  // A machine whose clock began anew.
  expect(reportStanding(host(), null, report("run-3", 0, 0))).toBe("newest");
});

test("what a host says of itself alone stands, however far its clock is behind; what was sent twice does not", () => {
  const alone = (behind: number, isUnhealthy: boolean) =>
    reportStanding(host(), null, {
      ...report("run-3", 0, 100 * DAY - behind),
      ...{ isEnd: true, isAlone: true, isUnhealthy },
    });
  for (const behind of [60 * SECOND, HOUR, 3 * DAY, 30 * DAY]) expect(alone(behind, false)).toBe("newest");
  expect(alone(59 * SECOND, false)).toBe("late");
  // An illness is believed in any case.
  expect(alone(59 * SECOND, true)).toBe("newest");
  expect(reportStanding(host(), null, { ...report("run-2", 4), isAlone: true, isUnhealthy: true })).toBe("known");
});

test("in whatever order the steps of a run come, the last one stands", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 30 }), (sequences) => {
      let view = host({ runId: null, sequence: 0, seenAt: null });
      const seen: number[] = [];
      for (const sequence of sequences) {
        const standing = reportStanding(view, seen.length > 0 ? run(...seen) : null, report("run", sequence));
        expect(standing === "known").toBe(seen.includes(sequence));
        if (standing === "newest") view = { ...view, runId: "run", sequence };
        if (standing !== "known") seen.push(sequence);
      }
      expect(view.sequence).toBe(Math.max(...sequences));
    }),
  );
});

interface Told {
  readonly sequence: number;
  readonly happenedAt: number;
  readonly cameAt: number;
}

const IN_A_RUN = { isAlone: false, isUnhealthy: false };

/** A server that knows of one host, as it takes down what comes. */
function serverOf() {
  let view = host({ runId: null, sequence: 0, seenAt: null });
  const runs = new Map<string, RunView>();
  const hear = (runId: string, steps: readonly Told[]) =>
    steps.map(({ sequence, happenedAt: stamp, cameAt }, index) => {
      const happenedAt = Math.min(stamp, cameAt);
      const known = runs.get(runId) ?? null;
      const place = { runId, sequence, happenedAt, cameAt, isEnd: index === steps.length - 1, ...IN_A_RUN };
      const standing = reportStanding(view, known, place);
      const first = known ?? { beganAt: happenedAt, firstCameAt: cameAt, sequences: [] };
      runs.set(runId, { ...first, sequence, sequences: [...first.sequences, sequence] });
      if (standing === "newest") view = { ...view, runId, sequence, seenAt: happenedAt };
      return standing;
    });
  return { hear, view: () => view };
}

test("wherever a host's clock is set between two runs, the server knows its last run when that has ended", () => {
  const seconds = fc.integer({ min: 0, max: 600 });
  const told = fc.record({
    offset: fc.integer({ min: -30 * 24 * 60, max: 30 * 24 * 60 }),
    pause: seconds,
    steps: fc.array(fc.record({ seconds, delay: fc.integer({ min: 0, max: 1_900 }) }), { minLength: 2, maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(told, { minLength: 1, maxLength: 8 }), (drawn) => {
      const server = serverOf();
      let now = 1_000 * DAY;
      for (const [index, { offset, pause, steps }] of drawn.entries()) {
        now += pause * SECOND;
        const live = steps.map(({ seconds: took, delay }, sequence) => {
          now += took * SECOND + delay;
          return { sequence, happenedAt: now - delay + offset * 60 * SECOND, cameAt: now };
        });
        server.hear(`run-${index}`, live);
        expect(server.view()).toMatchObject({ runId: `run-${index}`, sequence: steps.length - 1 });
      }
    }),
    { numRuns: 300 },
  );
});

test("a run that waited in a queue while something newer became known changes nothing", () => {
  const lengths = fc.array(fc.integer({ min: 0, max: 600 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(lengths, fc.integer({ min: 1, max: 6 * 24 * 60 }), (lasted, minutesAgo) => {
      const server = serverOf();
      const now = 1_000 * DAY;
      server.hear("new", [{ sequence: 0, happenedAt: now, cameAt: now }]);
      let at = now - minutesAgo * 60 * SECOND - 4_000 * SECOND;
      // The first step of a real run that ends takes some seconds at least.
      const times = [at, ...[...lasted, 5].map((seconds) => (at += seconds * SECOND))];
      const queued = times.map((happenedAt, sequence) => ({ sequence, happenedAt, cameAt: now + sequence * 100 }));
      expect(new Set(server.hear("old", queued))).toEqual(new Set(["late"]));
      expect(server.view().runId).toBe("new");
    }),
    { numRuns: 300 },
  );
});

test("a clock that is put right during a run is believed at its end", () => {
  const server = serverOf();
  const now = 1_000 * DAY;
  server.hear("one", [{ sequence: 0, happenedAt: now, cameAt: now }]);
  const standings = server.hear("two", [
    { sequence: 0, happenedAt: now - HOUR, cameAt: now + SECOND },
    { sequence: 1, happenedAt: now + 9 * SECOND, cameAt: now + 9 * SECOND },
  ]);
  expect(standings).toEqual(["late", "newest"]);
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
