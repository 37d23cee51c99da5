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

/** Why evaluations of the organization are not begun; null when one would be, once a place is free. */
export function explainQueued(organizationId: string, { workers, draining }: Fleet): WaitingReason | null {
  if (draining) return { kind: "draining" };
  const can = (part: "fetch" | "eval" | "whole") => workers.some((worker) => canEvaluate(organizationId, part, worker));
  if (can("whole") || (can("fetch") && can("eval"))) return null;
  const connected_workers = connectedTo(organizationId, workers).length;
  return { kind: "eval_workers", capability: can("eval") ? "fetch" : "eval", connected_workers };
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
