import type { OpenAttempt, ProvenWorker } from "#core/db/attempts.ts";
import { type NewWorkerConnection, openWorkerConnection } from "#core/db/worker-connections.ts";
import { prolongLeases, reattachWorker, returnAttempt } from "#core/services/transitions/leases.ts";
import type { WorkerGrant } from "#core/services/worker-auth.ts";
import type { HubDeps } from "./deps.ts";
import { listOpenAttempts } from "./leased-attempts.ts";

/** The leases of one worker's session, of the organizations that the worker has proved and of no other. */
export class SessionLeases {
  readonly #deps: HubDeps;
  readonly #proved: ProvenWorker;
  #grants: readonly WorkerGrant[];

  constructor(deps: HubDeps, workerId: string, grants: readonly WorkerGrant[]) {
    this.#deps = deps;
    this.#grants = grants;
    this.#proved = { workerId, organizationIds: grants.map(({ organizationId }) => organizationId) };
  }

  /** What the worker has proved, without what a newer session of it has taken over. */
  get grants(): readonly WorkerGrant[] {
    return this.#grants;
  }

  get worker(): ProvenWorker {
    return { ...this.#proved, organizationIds: this.#grants.map(({ organizationId }) => organizationId) };
  }

  includes(organizationId: string): boolean {
    return this.#grants.some((grant) => grant.organizationId === organizationId);
  }

  yieldTo(organizationIds: readonly string[]): void {
    this.#grants = this.#grants.filter((grant) => !organizationIds.includes(grant.organizationId));
  }

  /**
   * Opens the session in the database, where it replaces older ones of the worker on whatever server, and only then
   * looks at the worker's leases: as for `reattachWorker`.
   */
  async open(
    session: Pick<NewWorkerConnection, "id" | "description">,
    named: readonly string[],
  ): Promise<OpenAttempt[]> {
    const { worker } = this;
    const { server, notifier } = this.#deps;
    await openWorkerConnection(this.#deps.db, { ...session, ...worker, serverId: server.id }, this.#deps);
    notifier.notify("session", worker.workerId);
    const held = await reattachWorker(this.#deps, worker, named, session.id);
    await this.prolong();
    return held;
  }

  async prolong(): Promise<void> {
    await prolongLeases(this.#deps, this.worker);
  }

  async listOpen(): Promise<ReadonlySet<string>> {
    return await listOpenAttempts(this.#deps.db, this.worker);
  }

  /** Also what was given out while a newer session took its organization over. */
  async giveBack(attemptId: string, reason: string): Promise<void> {
    await returnAttempt(this.#deps, this.#proved, attemptId, reason);
  }

  /**
   * Assigned while the session ended: the worker never hears of it, and its next session would keep the lease alive.
   */
  takeBack(attemptId: string): void {
    const { workerId } = this.#proved;
    this.giveBack(attemptId, "the worker left before it heard of it").catch((error: unknown) =>
      this.#deps.log.error("a job that no worker has was not taken back", { worker: workerId, attemptId, error }),
    );
  }
}
