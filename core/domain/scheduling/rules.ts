import { PRIORITY_MAX } from "../../api/actions.ts";
import type { InstanceFacts, JobFacts, PlaceFacts } from "./facts.ts";

export type JobRuleName = "priority" | "waiting" | "dependents" | "duration";
export type PlaceRuleName = "missing_bytes" | "prefer_local" | "memory" | "spare_features" | "load" | "failed_here";
export type InstanceRuleName = "fairness";
export type RuleName = JobRuleName | PlaceRuleName | InstanceRuleName;

interface Rule<Facts> {
  /** For people who look at a score. */
  readonly description: string;
  readonly points: Facts;
}

const GIB = 1024 ** 3;
const WAITING_POINTS_MAX = 4_000;
const LONG_MINUTES_MAX = 60;
const SPARE_FEATURES_MAX = 10;

/**
 * Points of every rule, in the open. No rule forbids anything and there is no floor: a place that is free and a build
 * that may run there always come together, and points decide only which of several.
 */
export const JOB_RULES: Readonly<Record<JobRuleName, Rule<(job: JobFacts) => number>>> = {
  priority: {
    description: "1000 for each step that people have put the build up or down.",
    points: ({ priority }) => 1_000 * Math.max(-PRIORITY_MAX, Math.min(PRIORITY_MAX, priority)),
  },
  waiting: {
    description: "1 for each second since the build could have begun, up to 4000: what waits long outweighs the rest.",
    points: ({ waitedMs }) => Math.min(Math.max(0, waitedMs / 1_000), WAITING_POINTS_MAX),
  },
  dependents: {
    description: "4 for each build that waits for this one directly, up to 200.",
    points: ({ dependents }) => 4 * dependents,
  },
  duration: {
    description: "2 for each minute that the package usually takes, up to 120: what is long is begun early.",
    points: ({ expectedMs }) => (expectedMs === null ? 0 : 2 * Math.min(expectedMs / 60_000, LONG_MINUTES_MAX)),
  },
};

export const PLACE_RULES: Readonly<Record<PlaceRuleName, Rule<(job: JobFacts, place: PlaceFacts) => number>>> = {
  missing_bytes: {
    description: "-10 where inputs have to be downloaded, and -100 for each GiB of them, down to -500.",
    points: (_, { missingBytes }) => (missingBytes > 0 ? -10 - Math.min((100 * missingBytes) / GIB, 490) : 0),
  },
  prefer_local: {
    description: "-100 where inputs have to be downloaded for a build that is quicker than that (preferLocalBuild).",
    points: ({ preferLocal }, { missingBytes }) => (preferLocal && missingBytes > 0 ? -100 : 0),
  },
  memory: {
    description: "-400 and more where the package lately needed more memory than the worker has free, down to -800.",
    points: ({ expectedMemoryMb }, { freeMemoryMb }) => {
      if (expectedMemoryMb === null || freeMemoryMb === null || expectedMemoryMb <= freeMemoryMb) return 0;
      return -400 * Math.min(expectedMemoryMb / Math.max(freeMemoryMb, 1), 2);
    },
  },
  spare_features: {
    description: "-3 for each feature of the worker that the build does not need: special machines stay free.",
    points: ({ requiredFeatures }, { systemFeatures }) =>
      -3 * Math.min(Math.max(0, systemFeatures - requiredFeatures), SPARE_FEATURES_MAX),
  },
  load: {
    description: "Down to -40 the more of the worker's places are taken: builds spread.",
    points: (_, { usedShare }) => -40 * usedShare,
  },
  failed_here: {
    description: "-300 on a worker where this build has failed: another one tries next.",
    points: (_, { failedHere }) => (failedHere ? -300 : 0),
  },
};

/**
 * What people put first moves shares and never takes all: from one end of the priorities to the other is 20000 points,
 * and so is the distance between an organization that runs everything and one that runs nothing.
 */
export const INSTANCE_RULES: Readonly<Record<InstanceRuleName, Rule<(instance: InstanceFacts) => number>>> = {
  fairness: {
    description: "Down to -20000 the more its organization runs beyond others that wait: they share the workers.",
    points: ({ shareAhead }) => -20_000 * shareAhead,
  },
};

export const RULE_NAMES: readonly RuleName[] = [
  ...(Object.keys(JOB_RULES) as JobRuleName[]),
  ...(Object.keys(PLACE_RULES) as PlaceRuleName[]),
  ...(Object.keys(INSTANCE_RULES) as InstanceRuleName[]),
];

export function describeRule(name: RuleName): string {
  return { ...JOB_RULES, ...PLACE_RULES, ...INSTANCE_RULES }[name].description;
}
