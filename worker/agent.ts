import { join } from "node:path";
import { utf8 } from "#core/lib/bytes.ts";
import { type Clock, sleep } from "#core/lib/clock.ts";
import type { RandomBytes } from "#core/lib/ids.ts";
import { collect } from "#core/lib/streams.ts";
import type { Logger } from "#core/ports/logger.ts";
import { DERIVATION_BYTES_MAX, HEARTBEAT_INTERVAL_MS, WORKER_BUILDS_MAX } from "#core/protocol/limits.ts";
import type { BuildJob, EvaluationJob } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { BuildResult, Capabilities, EvaluationResult } from "#core/protocol/worker-messages.ts";
import { BuildPlaces, type BuildPlacesOptions } from "./build-places.ts";
import { AttemptEndedError, type AttemptLink } from "./link.ts";
import type { MachineMetrics } from "./machine-metrics.ts";
import { Attempt } from "./session/attempt.ts";
import type { WorkerFacts } from "./session/introduction.ts";
import type { IncomingMessage, LiveSession } from "./session/live-session.ts";
import { clearSpools, spoolPath } from "./session/log-spool.ts";
import type { NarReturns } from "./session/nar-returns.ts";
import { Supervisor, type SupervisorOptions } from "./session/supervisor.ts";
import { unlessAborted } from "./store/unless-aborted.ts";
import { transientFailure } from "./transient-failure.ts";
import type { WorkState } from "./work-status.ts";

export interface AgentOptions {
  readonly workerId: string;
  readonly capabilities: Capabilities;
  readonly facts: WorkerFacts;
  /** Holds the spooled logs of running builds. */
  readonly dataDir: string;
  readonly connect: (signal: AbortSignal) => Promise<Socket>;
  readonly arrival?: SupervisorOptions["arrival"];
  readonly tokensFor: SupervisorOptions["tokensFor"];
  /** Both turn every failure into a result; they throw `AttemptEndedError` when the attempt has ended meanwhile. */
  readonly build: (job: BuildJob, aterm: Uint8Array, link: AttemptLink) => Promise<BuildResult>;
  readonly evaluate: (job: EvaluationJob, link: AttemptLink) => Promise<EvaluationResult>;
  readonly preparedMax?: BuildPlacesOptions["preparedMax"];
  /** Absent: the server does not ask for NARs that it has lost. */
  readonly returns?: NarReturns;
  /** How the machine is doing since the last call. Absent: the server is not told. */
  readonly metrics?: () => Promise<MachineMetrics>;
  readonly clock: Clock;
  /** By default the system's. */
  readonly random?: RandomBytes;
  readonly log: Logger;
}

type Kind = "evaluation" | "build";

interface Running {
  readonly kind: Kind;
  readonly attempt: Attempt;
  readonly done: Promise<void>;
}

/** Takes jobs from the server, runs them, and reports how they ended. */
export class Agent {
  readonly #options: AgentOptions;
  readonly #supervisor: Supervisor;
  readonly #spoolFolder: string;
  readonly #running = new Map<string, Running>();
  readonly #builds: BuildPlaces;
  readonly #stop = new AbortController();
  #draining = false;

  constructor(given: AgentOptions) {
    const options = { ...given, facts: limited(given.facts) };
    this.#options = options;
    this.#spoolFolder = join(options.dataDir, "logs");
    this.#builds = new BuildPlaces({
      clock: options.clock,
      places: () => this.#supervisor.facts.maxConcurrentBuilds,
      askedMax: () => this.#supervisor.buildsAskedMax,
      ...(options.preparedMax !== undefined && { preparedMax: options.preparedMax }),
      giveBack: (id) => this.#giveBack(id, "it waited for others on this worker"),
    });
    this.#supervisor = new Supervisor({
      ...options,
      returnsNars: options.returns !== undefined,
      onAuthorized: (organizationIds) => options.returns?.authorize(organizationIds),
      // What was ended here may take a while to stop, and reports nothing.
      attempts: () => [...this.#running.keys()].filter((id) => !this.#running.get(id)?.attempt.signal.aborted),
      onAttached: (session, held) => this.#attached(session, held),
      onMessage: (session, message) => this.#receive(session, message),
      onLeaseLost: () => this.#endAll("no server was reached while the lease lasted"),
    });
  }

  /** Works until `stop` has done its part. */
  async run(): Promise<void> {
    await clearSpools(this.#spoolFolder);
    await Promise.all([this.#supervisor.run(this.#stop.signal), this.#tellMetrics(this.#stop.signal)]);
  }

  /** What this machine offers has changed. What runs goes on. */
  describe(facts: WorkerFacts): void {
    this.#supervisor.describe(limited(facts));
    const session = this.#supervisor.current;
    if (session && !this.#draining) this.#requestAll(session);
  }

  /** The peers file has changed: organizations that were added or removed count from now on. */
  renewTokens(): void {
    this.#supervisor.renew();
  }

  /** What runs, for who tells people. */
  get state(): WorkState {
    const stateOf = ([id, { kind }]: [string, Running]) => ({ kind, builderEnded: this.#builds.isDelivering(id) });
    const isConnected = this.#supervisor.current !== null;
    return { isConnected, isStopping: this.#draining, running: [...this.#running].map(stateOf) };
  }

  /** Takes no more work, and ends once what runs has been reported. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#supervisor.current?.send({ type: "draining" });
    for (const id of this.#builds.waiting) this.#giveBack(id, "the worker is draining");
    await Promise.all(Array.from(this.#running.values(), ({ done }) => done));
    this.#stop.abort();
  }

  /** Gives up what runs, and says so: the server gives it to another worker at once. */
  async abort(): Promise<void> {
    this.#draining = true;
    const reason = "the worker is stopping";
    for (const id of this.#running.keys()) this.#giveBack(id, reason);
    this.#stop.abort();
    await Promise.all(Array.from(this.#running.values(), ({ done }) => done));
  }

  async #tellMetrics(signal: AbortSignal): Promise<void> {
    const { metrics, clock, log } = this.#options;
    while (metrics && !signal.aborted) {
      await sleep(clock, HEARTBEAT_INTERVAL_MS, signal);
      try {
        const measured = await metrics();
        this.#supervisor.current?.send({ type: "worker_metrics", ...measured });
      } catch (error) {
        log.warn("how this machine is doing could not be measured", { error });
      }
    }
  }

  #attached(session: LiveSession, held: readonly { readonly attempt: string; readonly log_bytes: number }[]): void {
    const logBytes = new Map(held.map(({ attempt, log_bytes }) => [attempt, log_bytes]));
    for (const [id, { attempt }] of this.#running) {
      const bytes = logBytes.get(id);
      if (bytes === undefined) attempt.end("the server no longer knows of it");
      else if (!attempt.signal.aborted) attempt.attach(session, bytes);
    }
    if (this.#draining) return session.send({ type: "draining" });
    this.#requestAll(session);
  }

  /** In a session in which nothing was asked for, or what was is forgotten. */
  #requestAll(session: LiveSession): void {
    this.#request(session, "evaluation", this.#freeForEvaluations);
    this.#builds.forgetAsked();
    this.#requestBuilds();
  }

  get #freeForEvaluations(): number {
    const running = Array.from(this.#running.values()).filter(({ kind }) => kind === "evaluation");
    return this.#supervisor.facts.maxConcurrentEvaluations - running.length;
  }

  #receive(session: LiveSession, message: IncomingMessage): void {
    switch (message.type) {
      case "assign_job":
        return this.#assigned(session, message);
      case "abort_job":
        this.#running.get(message.attempt)?.attempt.end(message.reason);
        return;
      case "nar_wanted":
        return this.#options.returns?.receive(session, message, this.#stop.signal);
      case "error":
        this.#options.log.error("the server reports an error", { code: message.code, error: message.message });
        return;
      case "reject":
        this.#options.log.error("the server ends the session", { code: message.code, reason: message.reason });
        return;
      default:
        throw new Error(`${message.type} is out of order`);
    }
  }

  #assigned(session: LiveSession, { attempt: id, job }: Extract<IncomingMessage, { type: "assign_job" }>): void {
    const reason = this.#refusal(job.kind);
    if (reason !== null) {
      if (job.kind === "build") session.connection.refuseStream(job.drv.stream);
      return session.send({ type: "assign_job_response", attempt: id, accepted: false, reason });
    }
    const attempt = new Attempt({
      attemptId: id,
      builderPlace: () => this.#builds.mayBegin(id),
      onBuilderEnded: () => this.#builderEnded(id),
      spoolPath: spoolPath(this.#spoolFolder, id),
      session: (signal) => this.#supervisor.session(signal),
      pause: (ms, signal) => sleep(this.#options.clock, ms, signal),
    });
    attempt.attach(session, 0);
    session.send({ type: "assign_job_response", attempt: id, accepted: true });
    const work = job.kind === "build" ? this.#build(job, session, attempt) : this.#options.evaluate(job, attempt);
    const done = this.#finish(attempt, job.kind, work).finally(() => this.#ended(id, job.kind));
    this.#running.set(id, { kind: job.kind, attempt, done });
    this.#requestBuilds();
  }

  /** A job may have been on its way when this worker said that it has fewer places. */
  #refusal(kind: Kind): string | null {
    if (this.#draining) return "the worker is draining";
    const hasRoom = kind === "build" ? this.#builds.hasRoom : this.#freeForEvaluations > 0;
    return hasRoom ? null : "all places of the worker are taken";
  }

  /** Accepts the derivation's stream while the assignment is handled: its first frame may be next. */
  #build(job: BuildJob, session: LiveSession, attempt: Attempt): Promise<BuildResult> {
    const drv = session.connection.acceptStream(job.drv.stream);
    const mayPrepare = this.#builds.arrived(attempt.attemptId);
    return (async () => {
      const aterm = await collect(drv, Math.min(job.drv.size, DERIVATION_BYTES_MAX)).catch((error: unknown) => {
        if (!session.lost)
          throw new Error(`the derivation did not arrive whole: ${messageOf(error)}`, { cause: error });
        // Not named on the next session, it is given to another worker.
        throw new AttemptEndedError("the session ended before the derivation had arrived", { cause: error });
      });
      await unlessAborted(mayPrepare, attempt.signal);
      return await this.#options.build(job, aterm, attempt);
    })();
  }

  async #finish(attempt: Attempt, kind: Kind, work: Promise<BuildResult | EvaluationResult>): Promise<void> {
    try {
      const result = await work.catch((error: unknown) => this.#failed(attempt, kind, error));
      // Where people look first; what stopped the build is often not the builder's own words.
      if (result.kind === "build" && result.failure) attempt.log(utf8(`=== build failed: ${result.failure.message}\n`));
      await attempt.finish(result);
    } catch (error) {
      // Without a result the server takes the attempt back when this worker next names what it has.
      if (!(error instanceof AttemptEndedError)) {
        this.#options.log.error("a result could not be reported", { attempt: attempt.attemptId, error });
        await attempt
          .finish(transientFailure(kind, `its result could not be reported: ${messageOf(error)}`))
          .catch(() => {});
      }
    } finally {
      await attempt.close().catch(() => {});
    }
  }

  /** The executors have a result for every failure they foresee. */
  #failed(attempt: Attempt, kind: Kind, error: unknown): BuildResult | EvaluationResult {
    if (error instanceof AttemptEndedError) throw error;
    const message = "an attempt failed for a reason that the worker does not know";
    this.#options.log.error(message, { attempt: attempt.attemptId, error });
    return transientFailure(kind, messageOf(error));
  }

  #builderEnded(id: string): void {
    this.#builds.builderEnded(id);
    this.#requestBuilds();
  }

  #ended(id: string, kind: Kind): void {
    this.#running.delete(id);
    this.#builds.left(id);
    const session = this.#supervisor.current;
    if (kind === "evaluation" && session) this.#request(session, kind, 1);
    this.#requestBuilds();
  }

  /** The server gives it to another worker at once. Without a session it is not named in the next one. */
  #giveBack(id: string, reason: string): void {
    this.#supervisor.current?.send({ type: "assign_job_response", attempt: id, accepted: false, reason });
    this.#running.get(id)?.attempt.end(reason);
  }

  #requestBuilds(): void {
    const session = this.#supervisor.current;
    if (session && !this.#draining) this.#request(session, "build", this.#builds.ask());
  }

  #request(session: LiveSession, kind: Kind, free: number): void {
    const { capabilities } = this.#options;
    const able = kind === "build" ? capabilities.build : capabilities.eval || capabilities.fetch;
    if (able && free > 0 && !this.#draining) session.send({ type: "request_job", kind, free });
  }

  #endAll(reason: string): void {
    for (const { attempt } of this.#running.values()) attempt.end(reason);
  }
}

function limited(facts: WorkerFacts): WorkerFacts {
  return { ...facts, maxConcurrentBuilds: Math.min(facts.maxConcurrentBuilds, WORKER_BUILDS_MAX) };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
