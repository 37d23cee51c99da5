import { join } from "node:path";
import { type Clock, sleep } from "#core/lib/clock.ts";
import { type ByteStream, collect } from "#core/lib/streams.ts";
import type { Logger } from "#core/ports/logger.ts";
import { DERIVATION_BYTES_MAX } from "#core/protocol/limits.ts";
import type { BuildJob, EvaluationJob } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { BuildResult, Capabilities, EvaluationResult } from "#core/protocol/worker-messages.ts";
import { AttemptEndedError, type AttemptLink } from "./link.ts";
import { Attempt } from "./session/attempt.ts";
import type { IncomingMessage, LiveSession } from "./session/live-session.ts";
import { Supervisor, type WorkerFacts } from "./session/supervisor.ts";

export interface AgentOptions {
  readonly workerId: string;
  readonly capabilities: Capabilities;
  readonly facts: WorkerFacts;
  /** Holds the spooled logs of running builds. */
  readonly dataDir: string;
  readonly connect: (signal: AbortSignal) => Promise<Socket>;
  readonly tokensFor: (peers: readonly string[]) => Promise<{ readonly peer: string; readonly token: string }[]>;
  /** Both turn every failure into a result; they throw `AttemptEndedError` when the attempt has ended meanwhile. */
  readonly build: (job: BuildJob, aterm: Uint8Array, link: AttemptLink) => Promise<BuildResult>;
  readonly evaluate: (job: EvaluationJob, link: AttemptLink) => Promise<EvaluationResult>;
  readonly clock: Clock;
  readonly log: Logger;
}

type Kind = "build" | "evaluation";

interface Running {
  readonly kind: Kind;
  readonly attempt: Attempt;
  readonly done: Promise<void>;
}

/** Takes jobs from the server, runs them, and reports how they ended. */
export class Agent {
  readonly #options: AgentOptions;
  readonly #supervisor: Supervisor;
  readonly #running = new Map<string, Running>();
  readonly #stop = new AbortController();
  #draining = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#supervisor = new Supervisor({
      ...options,
      attempts: () => [...this.#running.keys()],
      onAttached: (session, held) => this.#attached(session, held),
      onMessage: (session, message) => this.#receive(session, message),
      onLeaseLost: () => this.#endAll("no server was reached while the lease lasted"),
    });
  }

  /** Works until `stop` has done its part. */
  async run(): Promise<void> {
    await this.#supervisor.run(this.#stop.signal);
  }

  /** Takes no more work, and ends once what runs has been reported. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#supervisor.current?.send({ type: "draining" });
    await Promise.all(Array.from(this.#running.values(), ({ done }) => done));
    this.#stop.abort();
  }

  /** Gives up what runs. The server gives it to another worker. */
  async abort(): Promise<void> {
    this.#draining = true;
    this.#endAll("the worker is stopping");
    this.#stop.abort();
    await Promise.all(Array.from(this.#running.values(), ({ done }) => done));
  }

  #attached(session: LiveSession, held: readonly { readonly attempt: string; readonly log_bytes: number }[]): void {
    const logBytes = new Map(held.map(({ attempt, log_bytes }) => [attempt, log_bytes]));
    for (const [id, { attempt }] of this.#running) {
      const bytes = logBytes.get(id);
      if (bytes === undefined) attempt.end("the server no longer knows of it");
      else attempt.attach(session, bytes);
    }
    if (this.#draining) return session.send({ type: "draining" });
    const { facts } = this.#options;
    this.#request(session, "evaluation", facts.maxConcurrentEvaluations - this.#count("evaluation"));
    this.#request(session, "build", facts.maxConcurrentBuilds - this.#count("build"));
  }

  #receive(session: LiveSession, message: IncomingMessage): void {
    switch (message.type) {
      case "assign_job":
        return this.#assigned(session, message);
      case "abort_job":
        this.#running.get(message.attempt)?.attempt.end(message.reason);
        return;
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
    if (this.#draining) {
      if (job.kind === "build") session.connection.refuseStream(job.drv.stream);
      const reason = "the worker is draining";
      return session.send({ type: "assign_job_response", attempt: id, accepted: false, reason });
    }
    const attempt = new Attempt({
      attemptId: id,
      spoolPath: join(this.#options.dataDir, "logs", `${id}.log`),
      session: (signal) => this.#supervisor.session(signal),
      pause: (ms, signal) => sleep(this.#options.clock, ms, signal),
    });
    attempt.attach(session, 0);
    session.send({ type: "assign_job_response", attempt: id, accepted: true });
    const work =
      job.kind === "build"
        ? this.#build(job, session.connection.acceptStream(job.drv.stream), attempt)
        : this.#options.evaluate(job, attempt);
    const done = this.#finish(attempt, work).finally(() => this.#ended(id, job.kind));
    this.#running.set(id, { kind: job.kind, attempt, done });
  }

  async #build(job: BuildJob, drv: ByteStream, attempt: Attempt): Promise<BuildResult> {
    const aterm = await collect(drv, Math.min(job.drv.size, DERIVATION_BYTES_MAX));
    return await this.#options.build(job, aterm, attempt);
  }

  async #finish(attempt: Attempt, work: Promise<BuildResult | EvaluationResult>): Promise<void> {
    try {
      await attempt.finish(await work);
    } catch (error) {
      // Without a result the server takes the attempt back when this worker next names what it has.
      if (!(error instanceof AttemptEndedError)) {
        this.#options.log.error("an attempt ended without a result", { attempt: attempt.attemptId, error });
        this.#supervisor.current?.send({
          type: "assign_job_response",
          attempt: attempt.attemptId,
          accepted: false,
          reason: error instanceof Error ? error.message.slice(0, 1000) : "unknown error",
        });
      }
    } finally {
      await attempt.close().catch(() => {});
    }
  }

  #ended(id: string, kind: Kind): void {
    this.#running.delete(id);
    const session = this.#supervisor.current;
    if (session && !this.#draining) this.#request(session, kind, 1);
  }

  #request(session: LiveSession, kind: Kind, free: number): void {
    const { capabilities } = this.#options;
    const able = kind === "build" ? capabilities.build : capabilities.eval && capabilities.fetch;
    if (able && free > 0) session.send({ type: "request_job", kind, free });
  }

  #count(kind: Kind): number {
    return Array.from(this.#running.values()).filter((running) => running.kind === kind).length;
  }

  #endAll(reason: string): void {
    for (const { attempt } of this.#running.values()) attempt.end(reason);
  }
}
