import { type EvaluationPart, findEvaluationGroup, type WorkerOffer } from "./eligibility.ts";

export interface QueuedEvaluation {
  readonly id: string;
  readonly organization_id: string;
  /** Its source is in the organization's internal store. */
  readonly fetched: boolean;
  /** False for what a stranger proposed. */
  readonly trusted: boolean;
}

/**
 * What may be done next with an evaluation, the best first. A worker that fetches and evaluates does both at once; else
 * one that only fetches does its part ahead, and another one evaluates what is there. No worker can keep an untrusted
 * evaluation apart from its store yet: those are given to none.
 */
export function nextParts({ fetched, trusted }: Pick<QueuedEvaluation, "fetched" | "trusted">): EvaluationPart[] {
  if (!trusted) return [];
  return fetched ? ["eval"] : ["whole", "fetch"];
}

export interface EvaluationChoice<W extends WorkerOffer> {
  readonly evaluationId: string;
  readonly part: EvaluationPart;
  readonly worker: W;
  /** The number of the worker's group of evaluations. */
  readonly group: number;
}

/** Gives each evaluation, in their order, to a worker with a place, at most one to each worker. */
export function chooseEvaluations<W extends WorkerOffer>(
  queued: readonly QueuedEvaluation[],
  workers: readonly W[],
): EvaluationChoice<W>[] {
  const free = new Set(workers);
  return queued.flatMap((evaluation) => {
    const { id, organization_id } = evaluation;
    for (const part of nextParts(evaluation)) {
      for (const worker of free) {
        const group = findEvaluationGroup(organization_id, part, worker);
        if (group === null) continue;
        free.delete(worker);
        return [{ evaluationId: id, part, worker, group }];
      }
    }
    return [];
  });
}
