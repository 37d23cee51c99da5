import type { Clock } from "#core/lib/clock.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { NarWanted } from "#core/protocol/nar-return-messages.ts";
import { ServerSession } from "#core/protocol/server-session.ts";
import type { SessionAuthority } from "#core/protocol/session-authority.ts";
import type { Introduction, SessionHost, SessionView } from "#core/protocol/session-host.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { LiveSession } from "../session/live-session.ts";
import type { SendReturn } from "../session/nar-returns.ts";
import { RelayAuthority, type RelayAuthorityOptions } from "./relay-authority.ts";
import { RELAY_BODIES_MAX, RELAY_LOGS_MAX, shareOf } from "./relay-limits.ts";
import type { RelayedAttempt, RelayedAttempts } from "./relayed-attempts.ts";
import { returnFromBehind } from "./relayed-returns.ts";
import { RelayedWorker } from "./relayed-worker.ts";

export interface DownstreamsOptions {
  readonly attempts: RelayedAttempts;
  /** The session with the server. */
  readonly upstream: () => LiveSession | null;
  /** The server's. */
  readonly leaseMs: () => number;
  readonly authority: Pick<RelayAuthorityOptions, "readTokens" | "organizations" | "attached" | "able">;
  readonly workersMax: number;
  readonly onChanged: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

const SILENCE_TIMEOUT_MS = 120_000;

type Session = ServerSession<RelayedWorker>;

/** The workers behind a relay: they are let in, given up, and given back what nobody has any more. */
export class Downstreams implements SessionHost<RelayedWorker> {
  readonly authority: SessionAuthority;
  readonly #options: DownstreamsOptions;
  readonly #sessions = new Set<Session>();
  readonly #workers = new Map<SessionView, RelayedWorker>();
  readonly #bodies = new Semaphore(RELAY_BODIES_MAX);
  readonly #logs = new Semaphore(RELAY_LOGS_MAX);
  /** By worker: when it has not come back by then, what it had is given back. */
  readonly #waiting = new Map<string, () => void>();

  constructor(options: DownstreamsOptions) {
    this.#options = options;
    this.authority = new RelayAuthority({ ...options.authority, clock: options.clock, log: options.log });
  }

  get workers(): readonly RelayedWorker[] {
    return [...this.#workers.values()];
  }

  /** The server has lost a NAR: see `returnFromBehind`. */
  returnNar(wanted: NarWanted, send: SendReturn): Promise<string | null> {
    return returnFromBehind(this.#workers, wanted, send);
  }

  /** Workers that have proved themselves and others have as many places each: strangers keep no worker out. */
  get hasRoom(): boolean {
    const { workersMax } = this.#options;
    return this.#workers.size < workersMax && this.#sessions.size - this.#workers.size < workersMax;
  }

  accept(socket: Socket): void {
    const { clock, leaseMs } = this.#options;
    const options = {
      clock,
      silenceTimeoutMs: SILENCE_TIMEOUT_MS,
      // As the server says it when the worker gets there.
      get leaseMs() {
        return leaseMs();
      },
    };
    this.#sessions.add(new ServerSession(socket, this, options));
  }

  /** Ends all sessions; the workers go on with what they run, and come back. */
  close(reason: string): void {
    for (const cancel of this.#waiting.values()) cancel();
    this.#waiting.clear();
    for (const session of [...this.#sessions]) session.drain(reason);
  }

  /** The server lets the relay work for others now, or the operator other workers: each proves itself anew. */
  renew(): void {
    for (const session of [...this.#sessions]) if (session.work) session.renew();
  }

  /** The server has ended the attempt. */
  abort(attemptId: string, reason: string): void {
    const attempt = this.#options.attempts.get(attemptId);
    if (!attempt) return;
    this.#options.attempts.delete(attemptId);
    this.#workerOf(attempt)?.abort(attemptId, reason);
  }

  /** The server gives it to another worker; a worker that still has it stops it. */
  giveBack(attemptId: string, reason: string): void {
    this.abort(attemptId, reason);
    this.#options.upstream()?.send({ type: "assign_job_response", attempt: attemptId, accepted: false, reason });
  }

  /** Workers that have attempts and no session are given the time of a lease to come back. */
  awaitReturn(): void {
    for (const attempt of this.#options.attempts) if (!this.#workerOf(attempt)) this.#awaitReturnOf(attempt.workerId);
  }

  async register(session: SessionView, introduction: Introduction): Promise<RelayedWorker | null> {
    const { connection, workerId, grants } = session;
    const { attempts, upstream: current, onChanged, workersMax, log } = this.#options;
    this.#replace(workerId);
    if (this.#workers.size >= workersMax) {
      session.reject(503, `this relay has as many workers as it may (maxProtoConnections is ${workersMax})`);
      return null;
    }
    const upstream = current();
    if (!upstream) {
      connection.close(1001, "the relay has lost its session with the server");
      return null;
    }
    const named = new Set(introduction.attempts);
    const own = [...attempts].filter((attempt) => attempt.workerId === workerId);
    const isHeld = ({ id, organizationId }: RelayedAttempt) =>
      named.has(id) && grants.some((grant) => grant.organizationId === organizationId);
    // What an older session has received of a log goes to the server first.
    await Promise.all(own.filter(isHeld).map(({ logSent }) => logSent));
    if (connection.closed) return null;
    this.#replace(workerId);
    this.#waiting.get(workerId)?.();
    this.#waiting.delete(workerId);
    for (const attempt of own) {
      attempt.uploads.clear();
      if (!isHeld(attempt)) this.giveBack(attempt.id, "its worker does not have it any more");
    }
    const share = shareOf(workersMax);
    const gates = {
      questions: new Semaphore(share.questions),
      fetches: new Semaphore(share.fetches),
      ownBodies: new Semaphore(share.bodies),
      bodies: this.#bodies,
      logs: this.#logs,
    };
    const worker = new RelayedWorker({
      ...{ workerId, connection, grants, introduction, upstream, attempts, gates, onChanged },
    });
    this.#workers.set(session, worker);
    const held = own.filter((attempt) => attempts.get(attempt.id) === attempt);
    connection.send({ type: "attempts", held: held.map(({ id, logBytes }) => ({ attempt: id, log_bytes: logBytes })) });
    log.info("a worker behind this relay connected", { worker: workerId, held: held.length });
    onChanged();
    return worker;
  }

  async regrant({ grants }: SessionView, worker: RelayedWorker): Promise<void> {
    worker.regrant(grants);
    for (const { id, workerId, organizationId } of this.#options.attempts) {
      if (workerId !== worker.workerId || worker.isFor(organizationId)) continue;
      this.giveBack(id, "the relay's operator no longer lets this worker in for the organization");
    }
  }

  refused({ workerId }: SessionView, code: number, reason: string): void {
    this.#options.log.warn("a worker was refused", { worker: workerId, code, reason });
  }

  failed({ workerId }: SessionView, error: unknown): void {
    this.#options.log.warn("a worker's handshake failed", { worker: workerId, error });
  }

  accused({ workerId }: SessionView, code: number, reason: string): void {
    this.#options.log.error("a worker ends its session for what the relay sent", { worker: workerId, code, reason });
  }

  closed(session: SessionView, reason: string): void {
    this.#sessions.delete(session as Session);
    const worker = this.#workers.get(session);
    if (!worker) return;
    this.#workers.delete(session);
    worker.close();
    this.#options.log.info("a worker behind this relay disconnected", { worker: worker.workerId, reason });
    const { attempts, upstream, onChanged } = this.#options;
    const hasAttempts = [...attempts].some(({ workerId }) => workerId === worker.workerId);
    if (hasAttempts && upstream()) this.#awaitReturnOf(worker.workerId);
    onChanged();
  }

  /** The newer session of a worker replaces the older. */
  #replace(workerId: string): void {
    for (const [session, worker] of [...this.#workers]) {
      if (worker.workerId === workerId) session.connection.close(4409, "a newer session of this worker has begun");
    }
  }

  #awaitReturnOf(workerId: string): void {
    this.#waiting.get(workerId)?.();
    const { clock, leaseMs, attempts } = this.#options;
    const cancel = clock.schedule(leaseMs(), () => {
      this.#waiting.delete(workerId);
      for (const { id, workerId: owner } of attempts) {
        if (owner === workerId) this.giveBack(id, "its worker did not come back to the relay");
      }
    });
    this.#waiting.set(workerId, cancel);
  }

  #workerOf({ workerId }: RelayedAttempt): RelayedWorker | undefined {
    return this.workers.find((worker) => worker.workerId === workerId);
  }
}
