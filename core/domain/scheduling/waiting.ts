import { nextParts, type QueuedEvaluation } from "./choose-evaluations.ts";
import { type BuildNeed, canEvaluate, isMet, type WorkerOffer } from "./eligibility.ts";
import type { UnmetNeed, WaitingReason } from "./waiting-reason.ts";

/** What is connected to any server, and whether anything new is given out at all. */
export interface Fleet {
  readonly workers: readonly WorkerOffer[];
  readonly draining: boolean;
}

/** Of these needs, those for which no build is given out however long it waits, as the fleet is now. */
export function unmetNeeds<T extends BuildNeed>(needs: readonly T[], { workers, draining }: Fleet): T[] {
  return draining ? [...needs] : needs.filter((need) => !isMet(need, workers));
}

/** Why an evaluation is not begun, or not gone on with; null when it would be, once a place is free. */
export function explainQueued(
  evaluation: Pick<QueuedEvaluation, "fetched" | "trusted"> & { readonly organizationId: string },
  { workers, draining }: Fleet,
): WaitingReason | null {
  // No worker gets it as it is, whoever comes: a member has to vouch for it.
  if (!evaluation.trusted) return { kind: "approval", pr_number: null, pr_author: null };
  if (draining) return { kind: "draining" };
  const { organizationId, fetched } = evaluation;
  const parts = nextParts(evaluation);
  if (workers.some((worker) => parts.some((part) => canEvaluate(organizationId, part, worker)))) return null;
  const connected_workers = connectedTo(organizationId, workers).length;
  return { kind: "eval_workers", capability: fetched ? "eval" : "fetch", connected_workers };
}

/** Why ready builds of an evaluation are not begun; null when there are none that wait for more than a free place. */
export function explainBuilding(
  organizationId: string,
  unmet: readonly UnmetNeed[],
  { workers, draining }: Fleet,
): WaitingReason | null {
  if (unmet.length === 0) return null;
  if (draining) return { kind: "draining" };
  const connected = connectedTo(organizationId, workers);
  const builders = connected.filter(
    (worker) =>
      !worker.draining && worker.grants.some((grant) => grant.organizationId === organizationId && grant.build),
  );
  const architectures = builders.flatMap(({ groups }) =>
    groups.flatMap((group) => (group.places > 0 ? group.architectures : [])),
  );
  return {
    kind: "workers",
    unmet: unmet.toSorted((a, b) => (needText(a) < needText(b) ? -1 : 1)),
    connected_workers: connected.length,
    available_architectures: [...new Set(architectures)].sort(),
  };
}

function connectedTo(organizationId: string, workers: readonly WorkerOffer[]): WorkerOffer[] {
  return workers.filter(({ grants }) => grants.some((grant) => grant.organizationId === organizationId));
}

function needText({ architecture, required_features }: UnmetNeed): string {
  return [architecture, ...required_features].join(" ");
}
