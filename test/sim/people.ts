import { EvaluationStatus } from "#core/domain/states.ts";
import { DomainError } from "#core/errors.ts";
import { createEvaluation } from "#core/services/evaluations-create.ts";
import { abortEvaluation } from "#core/services/transitions/abort.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import type { HubDeps } from "#runtime/node/hub/deps.ts";
import { makeFlake, type SimulatedFlake, type Universe } from "./flake.ts";
import type { Random } from "./random.ts";
import type { Simulator } from "./simulator.ts";
import { REPOSITORY, type SimulatedOrganization } from "./world.ts";

export const ENDED: readonly number[] = [EvaluationStatus.Completed, EvaluationStatus.Failed, EvaluationStatus.Aborted];

export interface PeopleOptions {
  readonly random: Random;
  readonly universe: Universe;
  readonly organizations: readonly SimulatedOrganization[];
  readonly simulator: Simulator;
  /** By commit. */
  readonly flakes: Map<string, SimulatedFlake>;
  /** Of some server that runs. */
  readonly deps: () => HubDeps | null;
}

/** What people ask of a server, by the services that the API calls. They ask again some other time when it fails. */
export class People {
  readonly aborted = new Set<string>();
  readonly #options: PeopleOptions;
  readonly #random: Random;
  readonly #evaluations: string[] = [];

  constructor(options: PeopleOptions) {
    this.#options = options;
    this.#random = options.random;
  }

  evaluate(): void {
    const flake = makeFlake(this.#random, this.#options.universe);
    this.evaluateFlake(this.#random.pick(this.#options.organizations), flake);
  }

  evaluateFlake(organization: SimulatedOrganization, flake: SimulatedFlake): void {
    const word = () =>
      this.#random
        .below(2 ** 32)
        .toString(16)
        .padStart(8, "0");
    const commit = Array.from({ length: 5 }, word).join("");
    this.#options.flakes.set(commit, flake);
    const projectId = this.#random.pick(organization.projectIds);
    const order = { projectId, organizationId: organization.id, repository: REPOSITORY, commit, startedBy: null };
    this.#ask("evaluate", async (deps) => {
      const { id } = await createEvaluation(deps, order);
      deps.notifier.notify("work", organization.id);
      this.#evaluations.push(id);
    });
  }

  abort(): void {
    if (this.#evaluations.length === 0) return;
    const id = this.#random.pick(this.#evaluations.slice(-3));
    // Whether it took place is unknown when the answer gets lost.
    this.aborted.add(id);
    this.#ask(`abort ${id}`, (deps) => abortEvaluation(deps, id));
  }

  restart(): void {
    if (this.#evaluations.length === 0) return;
    const id = this.#random.pick(this.#evaluations);
    this.#ask(`restart ${id}`, async (deps) => void this.#evaluations.push(await restartFailed(deps, id, null)));
  }

  changeRegistration(): void {
    const { id, workers } = this.#random.pick(this.#options.organizations);
    const worker = this.#random.pick(workers);
    this.#ask("change a registration", async (deps) => deps.notifier.notify("registration", `${id}/${worker.id}`));
  }

  #ask(what: string, act: (deps: HubDeps) => Promise<void>): void {
    const deps = this.#options.deps();
    if (!deps) return;
    act(deps).catch((error: unknown) => {
      const isRefusal = error instanceof DomainError;
      this.#options.simulator.note(`${what}: ${isRefusal ? "refused" : "failed"}: ${(error as Error).message}`);
    });
  }
}
