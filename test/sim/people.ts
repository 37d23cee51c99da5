import { EvaluationStatus } from "#core/domain/states.ts";
import { DomainError } from "#core/errors.ts";
import { createEvaluationControl, type EvaluationControl } from "#core/services/evaluations-control.ts";
import { createEvaluation } from "#core/services/evaluations-create.ts";
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

/** A build as the API names it. */
interface Link {
  readonly id: string;
  readonly drvPath: string;
  readonly organizationId: string;
}

/** What people ask of a server, by the services that the API calls. They ask again some other time when it fails. */
export class People {
  /** Evaluations that somebody wanted to end. */
  readonly aborted = new Set<string>();
  /** Builds that somebody wanted to end, as `organization id/derivation`. */
  readonly abortedBuilds = new Set<string>();
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
    this.#control(`abort ${id}`, (control) => control.abort(id));
  }

  restart(): void {
    if (this.#evaluations.length === 0) return;
    const id = this.#random.pick(this.#evaluations);
    this.#control(`restart ${id}`, async (control) => {
      this.#evaluations.push(await control.restartFailed(id, null));
    });
  }

  abortBuild(): void {
    this.#askOfBuild("abort a build", async (control, { id, drvPath, organizationId }) => {
      this.abortedBuilds.add(`${organizationId}/${drvPath}`);
      await control.abortBuild(id);
    });
  }

  restartBuild(): void {
    this.#askOfBuild("restart a build", async (control, { id }) => {
      this.#evaluations.push(await control.restartBuild(id, null));
    });
  }

  prioritize(): void {
    const priority = this.#random.between(-10, 10);
    if (this.#random.chance(0.5)) {
      return this.#askOfBuild("prioritize a build", (control, { id }) => control.prioritizeBuild(id, priority));
    }
    if (this.#evaluations.length === 0) return;
    const id = this.#random.pick(this.#evaluations);
    this.#control(`prioritize ${id}`, (control) => control.prioritize(id, priority));
  }

  changeRegistration(): void {
    const { id, workers } = this.#random.pick(this.#options.organizations);
    const worker = this.#random.pick(workers);
    this.#ask("change a registration", async (deps) => deps.notifier.notify("registration", `${id}/${worker.id}`));
  }

  #control(what: string, act: (control: EvaluationControl) => Promise<unknown>): void {
    this.#ask(what, async (deps) => void (await act(createEvaluationControl(deps))));
  }

  #askOfBuild(what: string, act: (control: EvaluationControl, link: Link) => Promise<unknown>): void {
    const fraction = this.#random.next();
    this.#ask(what, async (deps) => {
      const links = await deps.db
        .selectFrom("evaluation_build")
        .innerJoin("build", "build.id", "evaluation_build.build_id")
        .select(["evaluation_build.id", "drv_path as drvPath", "organization_id as organizationId"])
        .orderBy("evaluation_build.id")
        .execute();
      const link = links[Math.floor(fraction * links.length)];
      if (link) await act(createEvaluationControl(deps), link);
    });
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
