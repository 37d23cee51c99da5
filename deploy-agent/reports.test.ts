import { expect, test } from "vitest";
import { type Health, type ReportFacts, type ReportStep, withReport } from "./reports.ts";
import type { QueuedReport } from "./state.ts";

const links = { profilePath: null, generation: null, runningPath: null, bootedPath: null };
const facts = (step: ReportStep, health: Health): ReportFacts => ({
  ...{ runId: "r", sequence: 0, step, mode: "switch", buildId: null, storePath: null, view: links },
  ...{ health, happenedAt: "now" },
});
const queue = (...told: readonly (readonly [ReportStep, Health])[]) => {
  const reports = told.reduce<readonly QueuedReport[]>(
    (all, [step, health]) => withReport(all, facts(step, health)),
    [],
  );
  return reports.map(({ body }) => [body.step, body.health]);
};

test("old good news is not sent behind what is known since, and an illness that is over is still told", () => {
  const well = ["unchanged", "healthy"] as const;
  const ill = ["unchanged", "unhealthy"] as const;
  const unknown = ["unchanged", "unknown"] as const;
  expect(queue(well, well, well)).toEqual([well]);
  expect(queue(well, ill)).toEqual([ill]);
  expect(queue(ill, well, well)).toEqual([ill, well]);
  expect(queue(ill, well, ill, unknown)).toEqual([ill, unknown]);
  const run = [["activating", "unknown"] as const, ["succeeded", "healthy"] as const];
  expect(queue(well, ...run, well)).toEqual([...run, well]);
});
