/** Any machine runs these: the builder is part of Nix itself. */
export const BUILTIN_SYSTEM = "builtin";

/** What a build asks of the worker that runs it. Builds with the same need are one queue. */
export interface BuildNeed {
  readonly organizationId: string;
  readonly system: string;
  readonly requiredFeatures: readonly string[];
}

/** What an organization lets a worker do, as far as the worker can. */
export interface WorkerGrant {
  readonly organizationId: string;
  readonly fetch: boolean;
  readonly eval: boolean;
  readonly build: boolean;
}

/** Places that are alike. What one group cannot run alone is never put together from several. */
export interface BuildGroup {
  readonly architectures: readonly string[];
  readonly systemFeatures: readonly string[];
  /** All, or to dispatch, those that are free. */
  readonly places: number;
}

/** A connected worker as the scheduler sees it. */
export interface WorkerOffer {
  readonly workerId: string;
  /** It finishes what it has and takes no more. */
  readonly draining: boolean;
  readonly grants: readonly WorkerGrant[];
  readonly groups: readonly BuildGroup[];
  /** For evaluations: all, or to dispatch, those that are free. */
  readonly evaluationPlaces: number;
}

export type BuildRefusal = "draining" | "organization" | "capability" | "architecture" | "features" | "places";

/**
 * Why the group of the worker cannot run builds with this need, or null when it can. The one predicate of the
 * scheduler: dispatch asks it with the free places of groups, and what waiting reasons say follows from it with all.
 */
export function refuseBuild(need: BuildNeed, worker: WorkerOffer, group: BuildGroup): BuildRefusal | null {
  if (worker.draining) return "draining";
  const grant = worker.grants.find(({ organizationId }) => organizationId === need.organizationId);
  if (!grant) return "organization";
  if (!grant.build) return "capability";
  if (need.system !== BUILTIN_SYSTEM && !group.architectures.includes(need.system)) return "architecture";
  if (!need.requiredFeatures.every((feature) => group.systemFeatures.includes(feature))) return "features";
  return group.places > 0 ? null : "places";
}

/** Whether any of the workers can run builds with this need. */
export function isMet(need: BuildNeed, workers: readonly WorkerOffer[]): boolean {
  return workers.some((worker) => worker.groups.some((group) => refuseBuild(need, worker, group) === null));
}

/** `fetch` brings a source to the server, `eval` evaluates one that is there, `whole` does both in one go. */
export type EvaluationPart = "fetch" | "eval" | "whole";

/** Whether the worker can do this part of an evaluation of the organization. */
export function canEvaluate(organizationId: string, part: EvaluationPart, worker: WorkerOffer): boolean {
  if (worker.draining || worker.evaluationPlaces <= 0) return false;
  const grant = worker.grants.find((one) => one.organizationId === organizationId);
  if (!grant) return false;
  return (part === "eval" || grant.fetch) && (part === "fetch" || grant.eval);
}
