/** What rules go by that is the same for every worker. */
export interface JobFacts {
  /** From -10 to 10. */
  readonly priority: number;
  /** Since every dependency has been available. */
  readonly waitedMs: number;
  /** Builds that wait for this one directly; counted up to `DEPENDENTS_MAX`. */
  readonly dependents: number;
  /** The median of what builds of the same package took, or null for the first one. */
  readonly expectedMs: number | null;
  /** The most memory that the last of them had, or null. */
  readonly expectedMemoryMb: number | null;
  readonly preferLocal: boolean;
  readonly requiredFeatures: number;
  /** Of its direct inputs, as far as the organization's caches have them. */
  readonly inputBytes: number;
}

/** What rules go by that differs from worker to worker. */
export interface PlaceFacts {
  /** Of the job's direct inputs those that this worker neither made nor was given before. */
  readonly missingBytes: number;
  /** The last attempts of this job failed here. */
  readonly failedHere: boolean;
  /** What the group has beyond what the job needs. */
  readonly systemFeatures: number;
  /** Of the group's places, from 0 to 1. */
  readonly usedShare: number;
  /** Null where the worker does not say. */
  readonly freeMemoryMb: number | null;
}

export interface InstanceFacts {
  /**
   * The share of the running builds that the job's organization has beyond the share of the one with the least, of
   * those that have builds ready. From 0 to 1; 0 for an organization that competes with nobody.
   */
  readonly shareAhead: number;
}

/** Of a build with more dependents than that is known only that there are as many. */
export const DEPENDENTS_MAX = 50;
