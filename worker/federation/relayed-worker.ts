import type { ByteStream } from "#core/lib/streams.ts";
import type { ServerMessage } from "#core/protocol/server-messages.ts";
import type { SessionGrant } from "#core/protocol/session-authority.ts";
import type { Introduction, SessionWork, WorkMessage } from "#core/protocol/session-host.ts";
import type { BuildGroup, EvaluationGroup, WorkerMetrics } from "#core/protocol/worker-messages.ts";
import type { LiveSession } from "../session/live-session.ts";
import { passOn } from "./pass-on.ts";
import { Places } from "./places.ts";
import { RelayedMessages, type RelayedMessagesOptions } from "./relayed-messages.ts";

type Of<T extends WorkMessage["type"]> = Extract<WorkMessage, { type: T }>;
type Description = Introduction["message"];
export type Assignment = Extract<ServerMessage, { type: "assign_job" }>;

export interface RelayedWorkerOptions extends RelayedMessagesOptions {
  readonly grants: readonly SessionGrant[];
  readonly introduction: Introduction;
  /** Places or what they are for have changed. */
  readonly onChanged: () => void;
}

/** Places of a worker that are alike, with whom they are for. */
export interface OfferedBuilds {
  readonly group: BuildGroup;
  readonly places: Places;
}

export interface OfferedEvaluations {
  readonly group: EvaluationGroup;
  readonly places: Places;
}

/** A worker behind the relay: what it can do, what it has free, and what it says of its attempts. */
export class RelayedWorker implements SessionWork {
  readonly workerId: string;
  readonly upstream: LiveSession;
  /** What it measured last. */
  metrics: WorkerMetrics | null = null;
  readonly #options: RelayedWorkerOptions;
  readonly #messages: RelayedMessages;
  #grants: readonly SessionGrant[];
  #description: Description;
  #builds: readonly Places[] = [];
  #evaluations: readonly Places[] = [];
  #draining = false;
  #paused = false;

  constructor(options: RelayedWorkerOptions) {
    this.#options = options;
    this.workerId = options.workerId;
    this.upstream = options.upstream;
    this.#messages = new RelayedMessages(options);
    this.#grants = options.grants;
    this.#description = options.introduction.message;
    this.#countPlaces();
  }

  get description(): Description {
    return this.#description;
  }

  /** Whether it may be given anything now. */
  get takesJobs(): boolean {
    return !this.#draining && !this.#paused && !this.#options.connection.closed;
  }

  /** By the worker's own numbers. Empty for a worker that takes no more. */
  get builds(): readonly OfferedBuilds[] {
    if (this.#draining || !this.#options.introduction.capabilities.build) return [];
    return this.#description.groups.map((group, index) => ({
      group: { ...group, organizations: this.#organizations(group.organizations, "build") },
      places: this.#builds[index] as Places,
    }));
  }

  get evaluations(): readonly OfferedEvaluations[] {
    if (this.#draining) return [];
    return this.#evaluationGroups().map((group, index) => ({
      group: { ...group, organizations: this.#organizations(group.organizations, "eval") },
      places: this.#evaluations[index] as Places,
    }));
  }

  get signingKeys(): readonly string[] {
    const { signing_key, signing_keys = [] } = this.#description;
    return signing_key === undefined ? signing_keys : [signing_key, ...signing_keys];
  }

  isFor(organizationId: string): boolean {
    return this.#grants.some((grant) => grant.organizationId === organizationId);
  }

  /** `group`: the number that the worker has given it. `drv`: the derivation of a build, as it comes. */
  assign({ attempt, job }: Assignment, group: number, drv: ByteStream | null): void {
    const { connection } = this.#options;
    (job.kind === "build" ? this.#builds : this.#evaluations)[group]?.take();
    if (job.kind === "evaluation" || !drv) return connection.send({ type: "assign_job", attempt, group, job });
    const stream = connection.openStream();
    const passed = { ...job, drv: { ...job.drv, stream: stream.id } };
    connection.send({ type: "assign_job", attempt, group, job: passed });
    void passOn(drv, stream);
  }

  abort(attempt: string, reason: string): void {
    this.#options.connection.send({ type: "abort_job", attempt, reason });
  }

  regrant(grants: readonly SessionGrant[]): void {
    this.#grants = grants;
    this.#options.onChanged();
  }

  receive(message: WorkMessage): void | Promise<void> {
    switch (message.type) {
      case "request_job":
        return this.#request(message);
      case "draining":
        this.#draining = true;
        return this.#options.onChanged();
      case "worker_metrics":
        this.metrics = message;
        return;
      case "assign_job_response":
        void this.#messages.receive(message);
        if (!message.accepted) this.#options.attempts.delete(message.attempt);
        return;
      default:
        return this.#messages.receive(message);
    }
  }

  describe(message: Description): void {
    this.#description = message;
    this.#countPlaces();
    this.#options.onChanged();
  }

  setPaused(paused: boolean): void {
    this.#paused = paused;
    this.#options.onChanged();
  }

  close(): void {
    this.#messages.close();
  }

  #request({ kind, group = 0, free }: Of<"request_job">): void {
    const places = (kind === "build" ? this.#builds : this.#evaluations)[group];
    if (!places) throw new Error(`there is no group ${group} of ${kind}s`);
    places.ask(free);
    this.#options.onChanged();
  }

  #countPlaces(): void {
    this.#builds = this.#description.groups.map(({ max_concurrent_builds }) => new Places(max_concurrent_builds));
    const evaluations = this.#evaluationGroups();
    this.#evaluations = evaluations.map(({ max_concurrent_evaluations }) => new Places(max_concurrent_evaluations));
  }

  #evaluationGroups(): readonly EvaluationGroup[] {
    const { fetch, eval: evaluate } = this.#options.introduction.capabilities;
    const { evaluation_groups, max_concurrent_evaluations } = this.#description;
    return evaluation_groups ?? [{ fetch, eval: evaluate, max_concurrent_evaluations }];
  }

  /** Those of the group's own that the worker has proved, in one order. */
  #organizations(own: readonly string[] | undefined, work: "build" | "eval"): string[] {
    const granted = this.#grants.filter((grant) => (work === "build" ? grant.build : grant.eval || grant.fetch));
    const ids = granted.map(({ organizationId }) => organizationId);
    return ids.filter((id) => own === undefined || own.includes(id)).sort();
  }
}
