import type { WorkerDescription } from "#core/db/schema.ts";
import { regrantWorkerConnection } from "#core/db/worker-connection-changes.ts";
import { closeWorkerConnection, describeWorkerConnection, touchWorkerConnection } from "#core/db/worker-connections.ts";
import { derivedUuid } from "#core/lib/ids.ts";
import type { SessionWork, WorkerConnection, WorkMessage } from "#core/protocol/session-host.ts";
import type { WorkerMessage, WorkerMetrics } from "#core/protocol/worker-messages.ts";
import type { AssignedBuild, AssignedEvaluation } from "#core/services/transitions/assign.ts";
import { endEvaluationAttempt } from "#core/services/transitions/evaluation-progress.ts";
import type { WorkerGrant } from "#core/services/worker-auth.ts";
import { AssignmentSender } from "./assignment-sender.ts";
import { AttemptMessages } from "./attempt-messages.ts";
import { attemptStartsOf } from "./attempt-starts.ts";
import type { HubDeps } from "./deps.ts";
import { HeldAttempts } from "./held-attempts.ts";
import { recordOrFail } from "./hopeless-reports.ts";
import { type LeasedAttempt, loadLeasedAttempts } from "./leased-attempts.ts";
import { LogWriters } from "./log-writers.ts";
import { lookForMissing } from "./missing-inputs.ts";
import { NarTransfers } from "./nar-transfers.ts";
import { NarUploads } from "./nar-uploads.ts";
import { OrderedTasks } from "./ordered-tasks.ts";
import { RepeatedTask } from "./repeated-task.ts";
import { SessionLeases } from "./session-leases.ts";
import { SessionSignatures } from "./session-signatures.ts";
import { WorkerPlaces } from "./worker-places.ts";

type Of<T extends WorkMessage["type"]> = Extract<WorkMessage, { type: T }>;

export interface WorkerJobsOptions {
  readonly connection: WorkerConnection;
  readonly connectionId: string;
  readonly workerId: string;
  /** What it has proved. All that it does about attempts is limited to these organizations. */
  readonly grants: readonly WorkerGrant[];
  readonly description: WorkerDescription;
  /** The worker has asked for work, or has room again; `build`: for builds alone. */
  readonly onDemand: (kind?: "build") => void;
  /** Whether what this worker has built for the organization may wait a moment to be recorded. */
  readonly mayWait: (jobs: WorkerJobs, organizationId: string) => boolean;
}

/**
 * What a registered worker does. Messages that must keep their order (batches, messages and results of one attempt)
 * are handled one after the other; everything else is started and not waited for.
 */
export class WorkerJobs implements SessionWork {
  readonly options: WorkerJobsOptions;
  readonly attempts: HeldAttempts = new HeldAttempts();
  /** What the worker measured last. */
  metrics: WorkerMetrics | null = null;
  readonly #deps: HubDeps;
  readonly #messages: AttemptMessages;
  readonly #uploads: NarUploads;
  readonly #sender: AssignmentSender;
  readonly #ordered = new OrderedTasks((error) => this.#failed(error));
  readonly #logs = new LogWriters();
  /** Leases that the worker has never heard of, as of the last heartbeat. */
  #strange: ReadonlySet<string> = new Set();
  #leases: SessionLeases;
  readonly #signatures: SessionSignatures;
  readonly #places: WorkerPlaces;
  /** What the worker may do is being looked at. */
  #paused = false;
  readonly #recording = new RepeatedTask(() => this.#recordDescription());

  constructor(deps: HubDeps, options: WorkerJobsOptions) {
    this.options = options;
    this.#places = new WorkerPlaces(options.description);
    this.#leases = new SessionLeases(deps, options.workerId, options.grants);
    this.#deps = deps;
    this.#signatures = new SessionSignatures(deps, () => this.#leases.worker);
    this.#uploads = new NarUploads(deps, options.connection, this.#signatures);
    this.#sender = new AssignmentSender(deps, options.connection, () => options.onDemand("build"));
    this.#messages = new AttemptMessages(deps, {
      connection: options.connection,
      transfers: new NarTransfers(deps, options.connection),
      uploads: this.#uploads,
      logs: this.#logs,
      heldBy: (attemptId) => this.attempts.get(attemptId),
      inOrder: (attemptId, task) => this.#inOrder(attemptId, task),
      failed: (error) => this.#failed(error),
    });
  }

  /** True when it wants no more jobs, or may have none. */
  get draining(): boolean {
    return this.#paused || this.description.draining;
  }

  /** Places that the worker has asked to fill. */
  get free(): WorkerPlaces["free"] {
    return this.#places.free;
  }

  /** What it has proved, without what a newer session of the same worker has taken over. */
  get grants(): readonly WorkerGrant[] {
    return this.#leases.grants;
  }

  /** What it said of itself last. */
  get description(): WorkerDescription {
    return this.#places.description;
  }

  /** How many builds it may be sent now, of all groups together. */
  get buildRoom(): number {
    return this.#sender.room;
  }

  get buildPlaces(): number {
    return this.#places.ofBuilds;
  }

  /** Opens the session in the database, and tells the worker which of the attempts it named it still holds. */
  async reattach(named: readonly string[]): Promise<void> {
    const { connection, connectionId: id } = this.options;
    const held = await this.#leases.open({ id, description: this.description }, named);
    for (const attempt of await loadLeasedAttempts(this.#deps.db, held)) this.attempts.set(attempt.id, attempt);
    await this.#signatures.announce(this.description);
    connection.send({ type: "attempts", held: held.map(({ id, log_bytes }) => ({ attempt: id, log_bytes })) });
  }

  /**
   * Called again and again while the session lives: keeps the leases, and makes this side and the database agree. The
   * wake-up that told of an aborted attempt may have been lost, and one that was deleted with its organization has
   * none.
   */
  async heartbeat(): Promise<void> {
    const { grants } = this;
    const known = [...this.attempts.keys()];
    await this.#leases.prolong();
    await touchWorkerConnection(this.#deps.db, this.options.connectionId);
    const open = await this.#leases.listOpen();
    // A newer session has taken organizations over meanwhile: what is open there may be its own.
    if (grants !== this.grants) return;
    for (const id of known) if (!open.has(id)) this.abort(id, "it was ended on the server");

    // One that was assigned this moment is known by the next time.
    const strange = new Set([...open].filter((id) => !this.attempts.has(id)));
    for (const id of strange) if (this.#strange.has(id)) this.#leases.takeBack(id);
    this.#strange = strange;
  }

  setPaused(paused: boolean): void {
    this.#paused = paused;
    if (!paused) this.options.onDemand();
  }

  /**
   * What the worker has proved has changed. What it runs for organizations that fell away goes to other workers before
   * this resolves.
   */
  async regrant(grants: readonly WorkerGrant[]): Promise<void> {
    const before = this.#leases;
    const organizationIds = grants.map(({ organizationId }) => organizationId);
    before.yieldTo(before.worker.organizationIds.filter((id) => !organizationIds.includes(id)));
    const lost = [...this.attempts.values()].filter((held) => !organizationIds.includes(held.organizationId));
    for (const { id } of lost) {
      this.abort(id, "the organization no longer lets this worker in");
      await before.giveBack(id, "the worker was deactivated or removed");
    }
    const { connectionId: id, workerId } = this.options;
    await regrantWorkerConnection(this.#deps.db, { id, workerId, organizationIds }, this.#deps);
    this.#leases = new SessionLeases(this.#deps, workerId, grants);
    this.#strange = new Set();
  }

  /** A newer session of the same worker has proved these organizations: this one has no more to do with them. */
  yieldTo(organizationIds: readonly string[]): void {
    this.#leases.yieldTo(organizationIds);
    this.#strange = new Set();
    for (const { id, organizationId } of [...this.attempts.values()]) {
      if (organizationIds.includes(organizationId)) this.abort(id, "a newer session of this worker has it");
    }
  }

  async closed(): Promise<void> {
    this.#uploads.forget();
    await closeWorkerConnection(this.#deps.db, this.options.connectionId);
  }

  /** `group`: that whose place it takes. False when the session takes no jobs any more: the place is free still. */
  assignBuild(build: AssignedBuild, group: number): boolean {
    return this.#assign(build, () => this.#sender.sendBuild(build, group));
  }

  assignEvaluation(evaluation: AssignedEvaluation, group: number): boolean {
    return this.#assign(evaluation, () => this.#sender.sendEvaluation(evaluation, group));
  }

  /** The attempt was ended from outside: the worker stops it, and what it still sends of it is refused. */
  abort(attemptId: string, reason: string): void {
    if (!this.attempts.delete(attemptId)) return;
    attemptStartsOf(this.#deps).forget(attemptId);
    this.#logs.forget(attemptId);
    this.#uploads.forget(attemptId);
    this.options.connection.send({ type: "abort_job", attempt: attemptId, reason });
  }

  receive(message: WorkMessage): void | Promise<void> {
    switch (message.type) {
      case "request_job":
        this.#places.add(message);
        return this.options.onDemand(message.kind === "build" ? "build" : undefined);
      case "assign_job_response":
        if (!message.accepted) this.#refused(message);
        return;
      case "job_result":
        return this.#ordered.run(message.attempt, () => this.#result(message));
      case "worker_metrics":
        this.metrics = message;
        return;
      case "draining":
        return this.#drain();
      default:
        return this.#messages.receive(message);
    }
  }

  /** The worker says anew what it can do. */
  describe(message: Extract<WorkerMessage, { type: "worker_capabilities" }>): void {
    this.#places.describe(message);
    this.#recording.want();
    this.options.onDemand();
  }

  #drain(): void {
    this.#places.drain();
    this.#recording.want();
  }

  /** With what holds by then: the last to be written is the newest. Reasons to wait go by what is recorded. */
  async #recordDescription(): Promise<void> {
    const recording = describeWorkerConnection(this.#deps.db, this.options.connectionId, this.description);
    this.#spawn(recording);
    const announcing = this.#signatures.announce(this.description);
    this.#spawn(announcing);
    await Promise.allSettled([recording, announcing]);
    this.options.onDemand();
  }

  #refused({ attempt, reason }: Of<"assign_job_response">): void {
    if (!this.attempts.delete(attempt)) return;
    this.#spawn(this.#leases.giveBack(attempt, reason ?? "the worker refused it"));
  }

  #assign({ organization_id, attemptId }: AssignedBuild | AssignedEvaluation, send: () => LeasedAttempt): boolean {
    const takes = !this.options.connection.closed && !this.draining && this.#leases.includes(organization_id);
    if (takes) this.attempts.set(attemptId, send());
    else this.#leases.takeBack(attemptId);
    return takes;
  }

  async #result({ attempt, result, uploads = [] }: Of<"job_result">): Promise<void> {
    const held = this.attempts.get(attempt);
    // The result says when it began: a row's change of its own is spared also while results wait for their turn.
    attemptStartsOf(this.#deps).forget(attempt);
    this.attempts.reported(attempt);
    if (held) {
      await this.#logs.ended(attempt);
      // The rest of the log comes on the next session, and the result after it.
      if (this.options.connection.closed) return;
      if (held.kind !== result.kind) throw new Error(`the attempt is no ${result.kind}`);
      let delivered = true;
      await recordOrFail(this.#deps, attempt, async () => {
        if (result.kind === "evaluation") {
          await endEvaluationAttempt(this.#deps, attempt, result, await derivedUuid(attempt, "result"));
        } else {
          await lookForMissing(this.#deps, held, result);
          const mayWait = () => this.options.mayWait(this, held.organizationId);
          delivered = await this.#uploads.deliver(held, { result, uploads }, mayWait);
        }
      });
      if (!delivered) return;
    }
    // Acknowledged also when the lease had ended: there is nothing more that the worker could do.
    this.attempts.delete(attempt);
    this.#logs.forget(attempt);
    this.#uploads.forget(attempt);
    this.options.connection.send({ type: "job_result_ack", attempt });
  }

  /** What arrives of attempts that this worker does not hold, or holds no longer, is dropped. */
  async #inOrder(attemptId: string, task: () => Promise<void>): Promise<void> {
    if (!this.attempts.has(attemptId)) return;
    await this.#ordered.run(attemptId, () => recordOrFail(this.#deps, attemptId, task));
  }

  #spawn(task: Promise<void>): void {
    task.catch((error: unknown) => {
      if (!this.options.connection.closed) this.#deps.log.warn("a task of a worker's session failed", { error });
    });
  }

  /** What was sent is unanswered. The session ends, and the worker sends it again on the next. */
  #failed(error: unknown): void {
    this.#deps.log.error("a worker's report could not be recorded", { worker: this.options.workerId, error });
    this.options.connection.close(1011, "the server could not record what it was sent");
  }
}
