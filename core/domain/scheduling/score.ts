import type { InstanceFacts, JobFacts, PlaceFacts } from "./facts.ts";
import { INSTANCE_RULES, JOB_RULES, PLACE_RULES, type RuleName } from "./rules.ts";

const jobRules = Object.entries(JOB_RULES);
const placeRules = Object.entries(PLACE_RULES);
const instanceRules = Object.entries(INSTANCE_RULES);

/** What the job is worth wherever it goes. */
export function jobPoints(job: JobFacts): number {
  return jobRules.reduce((sum, [, { points }]) => sum + points(job), 0);
}

/** How well the job and the place fit. */
export function placePoints(job: JobFacts, place: PlaceFacts): number {
  return placeRules.reduce((sum, [, { points }]) => sum + points(job, place), 0);
}

export function instancePoints(instance: InstanceFacts): number {
  return instanceRules.reduce((sum, [, { points }]) => sum + points(instance), 0);
}

export interface ScoreBreakdown {
  /** The sum of the rules, rounded as they are. */
  readonly total: number;
  /** Rules that gave no points are left out. */
  readonly rules: Readonly<Partial<Record<RuleName, number>>>;
}

/** The same points, rule by rule, to a tenth. */
export function explainScore(job: JobFacts, place: PlaceFacts, instance: InstanceFacts): ScoreBreakdown {
  const all: [string, number][] = [
    ...jobRules.map(([name, { points }]): [string, number] => [name, points(job)]),
    ...placeRules.map(([name, { points }]): [string, number] => [name, points(job, place)]),
    ...instanceRules.map(([name, { points }]): [string, number] => [name, points(instance)]),
  ];
  const rounded = all.map(([name, points]) => [name, Math.round(points * 10) / 10] as const);
  const total = rounded.reduce((sum, [, points]) => sum + points, 0);
  return {
    total: Math.round(total * 10) / 10,
    rules: Object.fromEntries(rounded.filter(([, points]) => points !== 0)),
  };
}
