import { uuidV7 } from "#core/lib/ids.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import { BUILDS_ASKED_MAX } from "#core/protocol/limits.ts";
import { ServerSession } from "#core/protocol/server-session.ts";
import type { SessionAuthority } from "#core/protocol/session-authority.ts";
import type { Introduction, SessionHost, SessionView, WorkerConnection } from "#core/protocol/session-host.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { parseWorkerMessage } from "#core/protocol/worker-messages.ts";
import { authorizeWorker, challengeWorker } from "#core/services/worker-auth.ts";
import type { HubDeps } from "./deps.ts";
import { withoutNul } from "./plain-text.ts";
import { describeWorker } from "./worker-description.ts";
import { WorkerJobs } from "./worker-jobs.ts";

export type { WorkerConnection } from "#core/protocol/session-host.ts";

export interface SessionEvents {
  /** Null when the worker may have a place, else why not. */
  readonly refuse: (session: WorkerSession) => string | null;
  /**
   * The worker has proved itself and said what it can do. Resolves when no older session of it has anything to do with
   * its leases any more.
   */
  readonly onRegistered: (session: WorkerSession) => Promise<void>;
  /** A registered worker has proved itself to these organizations: no other session of it speaks for them any more. */
  readonly onProved: (session: WorkerSession, organizationIds: readonly string[]) => void;
  /** The worker wants something to do; `build`: builds alone. */
  readonly onDemand: (kind?: "build") => void;
  /** Whether what the worker has built for the organization may wait a moment to be recorded. */
  readonly mayWait: (jobs: WorkerJobs, organizationId: string) => boolean;
  readonly onClosed: (session: WorkerSession) => void;
}

/** Workers whose tokens a server looks at at a time: strangers who send wrong ones must not take every core. */
const VERIFIED_AT_ONCE = 2;
const verifying = new WeakMap<HubDeps, Semaphore>();

function verifyingOf(deps: HubDeps): Semaphore {
  const own = verifying.get(deps) ?? new Semaphore(VERIFIED_AT_ONCE);
  verifying.set(deps, own);
  return own;
}

/** A worker that this server dialled, and what proves it there: see `core/protocol/dial.ts`. */
export interface DialledWorker {
  readonly workerId: string;
  readonly authority: SessionAuthority;
}

/** One worker's session with this server: the database decides who it is, and its work is of the database. */
export class WorkerSession implements SessionHost<WorkerJobs> {
  readonly id: string;
  readonly authority: SessionAuthority;
  readonly #deps: HubDeps;
  readonly #events: SessionEvents;
  readonly #session: ServerSession<WorkerJobs>;
  readonly #settled: PromiseWithResolvers<string | null> = Promise.withResolvers();

  constructor(deps: HubDeps, socket: Socket, events: SessionEvents, dialled: DialledWorker | null = null) {
    this.id = uuidV7(deps.clock.now(), deps.random);
    this.#deps = deps;
    this.#events = events;
    this.authority = dialled?.authority ?? {
      challenge: (workerId) => challengeWorker(deps, workerId),
      authorize: (workerId, tokens) => verifyingOf(deps).run(() => authorizeWorker(deps, workerId, tokens)),
    };
    this.#session = new ServerSession(socket, this, {
      clock: deps.clock,
      leaseMs: deps.leaseMs,
      buildsAskedMax: BUILDS_ASKED_MAX,
      silenceTimeoutMs: deps.limits.workerHeartbeatTimeoutMs,
      expectedWorkerId: dialled?.workerId ?? null,
      parse: (value) => parseWorkerMessage(withoutNul(value)),
    });
  }

  get connection(): WorkerConnection {
    return this.#session.connection;
  }

  get wants(): ServerSession<WorkerJobs>["wants"] {
    return this.#session.wants;
  }

  get workerId(): string {
    return this.#session.workerId;
  }

  /** The organizations that this session speaks for. None before the worker has proved itself. */
  get organizationIds(): readonly string[] {
    return (this.jobs?.grants ?? this.#session.grants).map(({ organizationId }) => organizationId);
  }

  /** Whether what it may do hangs on this organization's registration of the worker. */
  dependsOn(organizationId: string): boolean {
    const concerned = this.jobs ? this.organizationIds : this.#session.proving;
    return concerned.includes(organizationId);
  }

  /** Resolves when the step of the handshake that is under way has ended, in whatever way. */
  get step(): Promise<void> {
    return this.#session.step;
  }

  /** What the worker runs and wants. Null before it is registered. */
  get jobs(): WorkerJobs | null {
    return this.#session.work;
  }

  /** Resolves with null when the worker is registered, with why not when its session ends before. */
  get settled(): Promise<string | null> {
    return this.#settled.promise;
  }

  /** What the worker may do has changed: it proves itself anew. */
  renew(): void {
    this.#session.renew();
  }

  /** Ends the session because the server stops. */
  drain(reason: string): void {
    this.#session.drain(reason);
  }

  async register(session: SessionView, { capabilities, message, attempts }: Introduction): Promise<WorkerJobs | null> {
    const refusal = this.#events.refuse(this);
    if (refusal !== null) {
      session.reject(503, refusal);
      return null;
    }
    const jobs = new WorkerJobs(this.#deps, {
      connection: this.connection,
      connectionId: this.id,
      workerId: this.workerId,
      grants: session.grants,
      description: describeWorker(capabilities, message),
      onDemand: this.#events.onDemand,
      mayWait: this.#events.mayWait,
    });
    // The older session of the same worker ends here, before its leases are looked at: what that one still had under
    // way in the database would take leases away from this one, and close its row.
    await this.#events.onRegistered(this);
    if (this.connection.closed) return null;
    await jobs.reattach(attempts);
    if (this.connection.closed) {
      // Its end came while the database was asked, and found no jobs to close.
      await jobs.closed();
      return null;
    }
    this.#settled.resolve(null);
    // Evaluations may have waited for such a worker, whether or not it has a place free. The next task finds its jobs.
    this.#deps.clock.schedule(0, () => this.#events.onDemand());
    this.#deps.log.info("worker connected", { worker: this.workerId, session: this.id });
    return jobs;
  }

  async regrant(session: SessionView, jobs: WorkerJobs): Promise<void> {
    const organizationIds = session.grants.map(({ organizationId }) => organizationId);
    this.#events.onProved(this, organizationIds);
    await jobs.regrant(session.grants);
  }

  refused(_session: SessionView, code: number, reason: string): void {
    this.#deps.log.warn("worker refused", { worker: this.workerId, code, reason });
  }

  failed(_session: SessionView, error: unknown): void {
    this.#deps.log.error("a worker's handshake failed", { worker: this.workerId, error });
  }

  accused(_session: SessionView, code: number, reason: string): void {
    this.#deps.log.error("a worker ends its session for what the server sent", { worker: this.workerId, code, reason });
  }

  closed(_session: SessionView, reason: string): void {
    if (this.jobs) this.#deps.log.info("worker disconnected", { worker: this.workerId, session: this.id, reason });
    this.#settled.resolve(reason);
    this.#events.onClosed(this);
  }
}
