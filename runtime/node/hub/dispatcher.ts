import { type AssignedBuild, assignBuilds, assignEvaluations } from "#core/services/transitions/assign.ts";
import type { HubDeps } from "./deps.ts";
import type { WorkerSession } from "./session.ts";
import type { WorkerJobs } from "./worker-jobs.ts";

/** Builds that one worker is given at a time, before the next one is asked: so work spreads over workers. */
const BUILDS_A_ROUND = 8;

/**
 * Fills the free places of the workers of this server. One pass runs at a time; a kick during a pass starts another.
 * Several servers may do this at once on one database: each row is claimed by one.
 */
export class Dispatcher {
  readonly #deps: HubDeps;
  readonly #sessions: () => Iterable<WorkerSession>;
  #kicked = false;
  #running: Promise<void> | null = null;

  constructor(deps: HubDeps, sessions: () => Iterable<WorkerSession>) {
    this.#deps = deps;
    this.#sessions = sessions;
  }

  kick(): void {
    this.#kicked = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      if (this.#kicked) this.kick();
    });
  }

  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    // Lets the messages that have arrived with the one that kicked be counted too.
    await Promise.resolve();
    while (this.#kicked) {
      this.#kicked = false;
      try {
        while (await this.#pass());
      } catch (error) {
        // The poll interval brings the next pass.
        this.#deps.log.error("a dispatch pass failed", { error });
      }
    }
  }

  /** True when anything was assigned: there may be more. */
  async #pass(): Promise<boolean> {
    let assigned = false;
    for (const session of [...this.#sessions()]) {
      const { jobs } = session;
      if (!jobs || jobs.draining || session.connection.closed) continue;
      if (await this.#assignEvaluations(jobs)) assigned = true;
      if (await this.#assignBuilds(jobs)) assigned = true;
    }
    return assigned;
  }

  async #assignEvaluations(jobs: WorkerJobs): Promise<boolean> {
    const { workerId } = jobs.options;
    const { capabilities } = jobs.description;
    if (jobs.free.evaluation <= 0 || !capabilities.fetch || !capabilities.eval) return false;
    const organizationIds = jobs.grants
      .filter((grant) => grant.fetch && grant.eval)
      .map((grant) => grant.organizationId);
    if (organizationIds.length === 0) return false;
    const evaluations = await assignEvaluations(this.#deps, { workerId, organizationIds, limit: 1 });
    for (const evaluation of evaluations) {
      jobs.free.evaluation--;
      jobs.assignEvaluation(evaluation);
    }
    return evaluations.length > 0;
  }

  async #assignBuilds(jobs: WorkerJobs): Promise<boolean> {
    const { capabilities, groups } = jobs.description;
    if (!capabilities.build) return false;
    let assigned = false;
    for (const number of groups.keys()) if (await this.#fillGroup(jobs, number)) assigned = true;
    return assigned;
  }

  async #fillGroup(jobs: WorkerJobs, number: number): Promise<boolean> {
    const group = jobs.description.groups[number];
    if (!group || jobs.buildRoom(number) <= 0) return false;
    const organizationIds = jobs.grants.filter((grant) => grant.build).map((grant) => grant.organizationId);
    if (organizationIds.length === 0) return false;
    const builds: AssignedBuild[] = await assignBuilds(this.#deps, {
      workerId: jobs.options.workerId,
      organizationIds,
      systems: group.architectures,
      features: group.system_features,
      limit: Math.min(jobs.buildRoom(number), BUILDS_A_ROUND),
    });
    for (const build of builds) {
      jobs.free.builds[number] = (jobs.free.builds[number] ?? 0) - 1;
      jobs.assignBuild(build);
    }
    return builds.length > 0;
  }
}
