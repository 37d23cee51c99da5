import type { WorkerDescription } from "#core/db/schema.ts";
import { BUILDS_ASKED_MAX } from "#core/protocol/limits.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import { describeWorker } from "./worker-description.ts";

type Of<T extends WorkerMessage["type"]> = Extract<WorkerMessage, { type: T }>;

/** What a worker says that it can do, and the places it has free. */
export class WorkerPlaces {
  /** Places that it has asked to fill, by the number of their group. */
  readonly free: { readonly evaluations: number[]; readonly builds: number[] };
  #description: WorkerDescription;

  constructor(description: WorkerDescription) {
    this.#description = description;
    this.free = { evaluations: evaluationPlaces(description).map(() => 0), builds: description.groups.map(() => 0) };
  }

  /** What it said of itself last. */
  get description(): WorkerDescription {
    return this.#description;
  }

  /** All it has for builds. */
  get ofBuilds(): number {
    return this.#description.groups.reduce((sum, group) => sum + group.max_concurrent_builds, 0);
  }

  /**
   * A worker may ask for no more places than it said it has, or for `BUILDS_ASKED_MAX` builds. Throws for a group that
   * there is not.
   */
  add({ kind, group = 0, free }: Of<"request_job">): void {
    const isBuild = kind === "build";
    const places = isBuild
      ? this.#description.groups.map(({ max_concurrent_builds: own }) =>
          own > 0 ? Math.max(own, BUILDS_ASKED_MAX) : 0,
        )
      : evaluationPlaces(this.#description);
    const max = places[group];
    if (max === undefined) throw new Error(`there is no group ${group} of ${kind}s`);
    const frees = isBuild ? this.free.builds : this.free.evaluations;
    frees[group] = Math.min((frees[group] ?? 0) + free, max);
  }

  /**
   * The worker says anew what it can do. The places it had asked to fill are forgotten, and it asks again: numbers of
   * groups mean something else from now on.
   */
  describe(message: Of<"worker_capabilities">): void {
    const { capabilities, draining } = this.#description;
    this.#description = { ...describeWorker(capabilities, message), draining };
    const evaluations = evaluationPlaces(this.#description).map(() => 0);
    this.free.evaluations.splice(0, Number.POSITIVE_INFINITY, ...evaluations);
    this.free.builds.splice(0, Number.POSITIVE_INFINITY, ...message.groups.map(() => 0));
  }

  /** It finishes what it has, and says so on its row. */
  drain(): void {
    this.#description = { ...this.#description, draining: true };
  }
}

/** All it has for evaluations, by group; a plain worker has one. */
function evaluationPlaces({ evaluation_groups, max_concurrent_evaluations }: WorkerDescription): number[] {
  return evaluation_groups?.map((group) => group.max_concurrent_evaluations) ?? [max_concurrent_evaluations];
}
