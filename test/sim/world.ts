import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { EvaluationStatus } from "#core/domain/states.ts";
import { DomainError } from "#core/errors.ts";
import { uuidV7 } from "#core/lib/ids.ts";
import { createEvaluation } from "#core/services/evaluate.ts";
import { abortEvaluation } from "#core/services/transitions/abort.ts";
import type { TransitionDeps } from "#core/services/transitions/deps.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import { makeFlake, type SimulatedFlake, type Universe } from "./flake.ts";
import type { Random } from "./random.ts";
import type { Simulator } from "./simulator.ts";
import type { WorkerMachine } from "./worker.ts";

const REPOSITORY = "https://example.com/site.git";

/** An organization with projects, caches and workers: everything that stands before the first event. */
export async function populate(
  db: Kysely<Database>,
  {
    random,
    simulator,
    workers,
    projects,
  }: {
    readonly random: Random;
    readonly simulator: Simulator;
    readonly workers: readonly WorkerMachine[];
    readonly projects: number;
  },
): Promise<{ readonly organizationId: string; readonly projectIds: readonly string[] }> {
  const id = () => uuidV7(simulator.nowMs, random.bytes);
  const organizationId = id();
  const display = { display_name: "Acme", description: "" };
  const ssh = { ssh_public_key: "", ssh_secret_key: new Uint8Array() };
  await db
    .insertInto("organization")
    .values({ id: organizationId, name: "acme", ...display, ...ssh })
    .execute();
  const keys = { public_key: "", secret_key: new Uint8Array() };
  await db
    .insertInto("cache")
    .values({ id: id(), kind: 1, organization_id: organizationId, ...display, ...keys })
    .execute();
  const cacheId = id();
  await db
    .insertInto("cache")
    .values({ id: cacheId, name: "main", ...display, ...keys })
    .execute();
  await db
    .insertInto("organization_cache")
    .values({ id: id(), organization_id: organizationId, cache_id: cacheId, mode: 0 })
    .execute();
  for (const { id: worker_id, name, token } of workers) {
    await db
      .insertInto("worker_registration")
      .values({ id: id(), organization_id: organizationId, worker_id, display_name: name, token_hash: token })
      .execute();
  }
  const projectIds = Array.from({ length: projects }, id);
  for (const [i, project] of projectIds.entries()) {
    await db
      .insertInto("project")
      .values({
        id: project,
        organization_id: organizationId,
        name: `project-${i}`,
        display_name: "Project",
        description: "",
        repository: REPOSITORY,
        wildcard: "packages.*.*",
      })
      .execute();
  }
  return { organizationId, projectIds };
}

/** What people ask of the server, by the services that the API calls. They ask again some other time when it fails. */
export class People {
  readonly aborted = new Set<string>();
  readonly flakes: Map<string, SimulatedFlake>;
  readonly #random: Random;
  readonly #universe: Universe;
  readonly #organizationId: string;
  readonly #projectIds: readonly string[];
  readonly #workers: readonly WorkerMachine[];
  readonly #simulator: Simulator;
  readonly #server: () => TransitionDeps | null;
  readonly #evaluations: string[] = [];

  constructor(given: {
    readonly random: Random;
    readonly universe: Universe;
    readonly organizationId: string;
    readonly projectIds: readonly string[];
    readonly workers: readonly WorkerMachine[];
    readonly simulator: Simulator;
    /** By commit. */
    readonly flakes: Map<string, SimulatedFlake>;
    readonly server: () => TransitionDeps | null;
  }) {
    this.flakes = given.flakes;
    this.#random = given.random;
    this.#universe = given.universe;
    this.#organizationId = given.organizationId;
    this.#projectIds = given.projectIds;
    this.#workers = given.workers;
    this.#simulator = given.simulator;
    this.#server = given.server;
  }

  evaluate(flake: SimulatedFlake = makeFlake(this.#random, this.#universe)): void {
    const commit = Array.from({ length: 5 }, () =>
      this.#random
        .below(2 ** 32)
        .toString(16)
        .padStart(8, "0"),
    ).join("");
    this.flakes.set(commit, flake);
    const order = {
      projectId: this.#random.pick(this.#projectIds),
      organizationId: this.#organizationId,
      repository: REPOSITORY,
      commit,
      startedBy: null,
    };
    this.#ask("evaluate", async (deps) => {
      const { id } = await createEvaluation(deps, order);
      deps.notifier.notify("work", this.#organizationId);
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
    const { id } = this.#random.pick(this.#workers);
    this.#ask("change a registration", async (deps) =>
      deps.notifier.notify("registration", `${this.#organizationId}/${id}`),
    );
  }

  #ask(what: string, act: (deps: TransitionDeps) => Promise<void>): void {
    const deps = this.#server();
    if (!deps) return;
    act(deps).catch((error: unknown) => {
      const isRefusal = error instanceof DomainError;
      this.#simulator.note(`${what}: ${isRefusal ? "refused" : "failed"}: ${(error as Error).message}`);
    });
  }
}

export const ENDED: readonly number[] = [EvaluationStatus.Completed, EvaluationStatus.Failed, EvaluationStatus.Aborted];
