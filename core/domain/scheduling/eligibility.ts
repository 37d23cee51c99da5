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
  /** Whose builds these places are for. Absent: of all that the worker is granted. */
  readonly organizationIds?: readonly string[];
}

/** Places for evaluations that are alike. */
export interface EvaluationGroup {
  readonly fetch: boolean;
  readonly eval: boolean;
  readonly places: number;
  readonly organizationIds?: readonly string[];
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
  /** Where they are not alike. Absent: each is for all that the worker is granted. */
  readonly evaluationGroups?: readonly EvaluationGroup[];
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
  if (!isFor(group, need.organizationId)) return "organization";
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
  return findEvaluationGroup(organizationId, part, worker) !== null;
}

/** The number of the worker's group that can do this part, or null when none can. */
export function findEvaluationGroup(organizationId: string, part: EvaluationPart, worker: WorkerOffer): number | null {
  const grant = worker.grants.find((one) => one.organizationId === organizationId);
  if (worker.draining || !grant || !canDo(part, grant)) return null;
  const groups = worker.evaluationGroups ?? [{ fetch: true, eval: true, places: worker.evaluationPlaces }];
  const found = groups.findIndex((group) => group.places > 0 && canDo(part, group) && isFor(group, organizationId));
  return found === -1 ? null : found;
}

function canDo(part: EvaluationPart, able: { readonly fetch: boolean; readonly eval: boolean }): boolean {
  return (part === "eval" || able.fetch) && (part === "fetch" || able.eval);
}

function isFor({ organizationIds }: Pick<BuildGroup, "organizationIds">, organizationId: string): boolean {
  return organizationIds === undefined || organizationIds.includes(organizationId);
}
