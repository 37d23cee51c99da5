import { join } from "node:path";
import { type Clock, sleep } from "#core/lib/clock.ts";
import type { RandomBytes } from "#core/lib/ids.ts";
import type { Logger } from "#core/ports/logger.ts";
import { HEARTBEAT_INTERVAL_MS } from "#core/protocol/limits.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { Capabilities } from "#core/protocol/worker-messages.ts";
import type { Stoppable } from "../main-signals.ts";
import type { IncomingMessage, LiveSession } from "../session/live-session.ts";
import { NarReturns, type NarReturnsOptions } from "../session/nar-returns.ts";
import { Supervisor, type SupervisorOptions } from "../session/supervisor.ts";
import type { WorkState } from "../work-status.ts";
import { Assignments } from "./assignments.ts";
import type { DownstreamTokens } from "./downstream-tokens.ts";
import { Downstreams } from "./downstreams.ts";
import { RelayedAttempts } from "./relayed-attempts.ts";
import { sumMetrics } from "./sum-metrics.ts";

export interface RelayOptions {
  readonly workerId: string;
  /** Kinds of jobs that are passed on. */
  readonly able: Pick<Capabilities, "fetch" | "eval" | "build">;
  /** Keeps which worker has which attempt. */
  readonly dataDir: string;
  /** Workers behind it at a time, and as many that have not proved themselves: the option maxProtoConnections. */
  readonly workersMax: number;
  readonly connect: SupervisorOptions["connect"];
  readonly tokensFor: SupervisorOptions["tokensFor"];
  readonly readTokens: () => Promise<DownstreamTokens>;
  readonly clock: Clock;
  readonly random?: RandomBytes;
  readonly log: Logger;
}

const ATTEMPTS_FILE = "relay-attempts";
const LEASE_MS_FIRST = 60_000;

/**
 * A worker that does nothing itself: what the server gives it goes to the workers behind it, and what they say goes to
 * the server. It keeps nothing that they could not tell again: when its session with the server is lost, it ends
 * theirs, and everybody goes on by the rules for a lost session.
 */
export class Relay implements Stoppable {
  readonly #options: RelayOptions;
  readonly #supervisor: Supervisor;
  readonly #attempts: RelayedAttempts;
  readonly #downstreams: Downstreams;
  readonly #assignments: Assignments;
  readonly #returns: NarReturns;
  readonly #stop = new AbortController();
  #organizations: readonly string[] | null = null;
  #leaseMs = LEASE_MS_FIRST;
  #attached = Promise.withResolvers<void>();
  #draining = false;
  #emptied: () => void = () => {};

  constructor(options: RelayOptions) {
    const { workerId, able, clock, log } = options;
    this.#options = options;
    this.#attempts = new RelayedAttempts(join(options.dataDir, ATTEMPTS_FILE), log);
    this.#downstreams = new Downstreams({
      attempts: this.#attempts,
      upstream: () => this.#supervisor.current,
      leaseMs: () => this.#leaseMs,
      authority: {
        readTokens: options.readTokens,
        organizations: () => (this.#supervisor.current ? this.#organizations : null),
        attached: () => this.#attached.promise,
        able,
      },
      workersMax: options.workersMax,
      onChanged: () => this.#assignments.settleSoon(),
      clock,
      log,
    });
    const find: NarReturnsOptions["find"] = (wanted, send) => this.#downstreams.returnNar(wanted, send);
    this.#returns = new NarReturns({ find, log });
    this.#assignments = new Assignments({
      attempts: this.#attempts,
      workers: () => this.#downstreams.workers,
      describe: (facts) => this.#supervisor.describe(facts),
      able,
      clock,
      log,
    });
    this.#supervisor = new Supervisor({
      workerId,
      capabilities: { ...able, sign: false, federate: true },
      facts: this.#assignments.facts,
      returnsNars: true,
      connect: options.connect,
      tokensFor: options.tokensFor,
      clock,
      ...(options.random && { random: options.random }),
      log,
      attempts: () => this.#attempts.ids,
      onAuthorized: (organizationIds, leaseMs) => this.#authorized(organizationIds, leaseMs),
      onAttached: (session, held) => this.#attach(session, held),
      onLost: () => this.#lost(),
      onMessage: (session, message) => this.#receive(session, message),
      // The workers know by themselves: their sessions ended with the relay's.
      onLeaseLost: () => {},
    });
    this.#attempts.onDelete = () => {
      if (this.#attempts.size === 0) this.#emptied();
    };
  }

  async run(): Promise<void> {
    await this.#attempts.load();
    const { signal } = this.#stop;
    await Promise.all([this.#supervisor.run(signal), this.#tellMetrics(signal)]);
    this.#assignments.close();
    this.#downstreams.close("the relay is stopping");
    await this.#attempts.written();
  }

  /** Whether one more worker may begin a session. */
  get hasRoom(): boolean {
    return !this.#stop.signal.aborted && this.#downstreams.hasRoom;
  }

  /** A worker has connected, or somebody who says so. */
  accept(socket: Socket): void {
    this.#downstreams.accept(socket);
  }

  state(): WorkState {
    const isConnected = this.#supervisor.current !== null;
    const workers = this.#downstreams.workers.length;
    return { isConnected, isStopping: this.#draining, running: [...this.#attempts], workers };
  }

  /** Takes no more work; the workers behind it finish what they have. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#assignments.close();
    this.#supervisor.current?.send({ type: "draining" });
    if (this.#attempts.size > 0) await new Promise<void>((resolve) => (this.#emptied = resolve));
    this.#stop.abort();
  }

  /** Gives back what the workers behind it have. */
  async abort(): Promise<void> {
    this.#draining = true;
    this.#assignments.close();
    for (const { id } of this.#attempts) this.#downstreams.giveBack(id, "the relay is stopping");
    this.#stop.abort();
    this.#emptied();
  }

  /** Looks at the tokens anew, at its own and at those of the workers. */
  async reload(): Promise<void> {
    this.#supervisor.renew();
    this.#downstreams.renew();
  }

  #authorized(organizationIds: readonly string[], leaseMs: number): void {
    this.#organizations = organizationIds;
    this.#returns.authorize(organizationIds);
    this.#leaseMs = leaseMs;
    this.#downstreams.renew();
  }

  #attach(session: LiveSession, held: readonly { readonly attempt: string; readonly log_bytes: number }[]): void {
    const logBytes = new Map(held.map(({ attempt, log_bytes }) => [attempt, log_bytes]));
    for (const attempt of this.#attempts) {
      const bytes = logBytes.get(attempt.id);
      if (bytes === undefined) this.#attempts.delete(attempt.id);
      else attempt.logBytes = bytes;
    }
    this.#downstreams.awaitReturn();
    this.#attached.resolve();
    if (this.#draining) return session.send({ type: "draining" });
    this.#assignments.attach(session);
  }

  #lost(): void {
    this.#attached = Promise.withResolvers();
    this.#assignments.detach();
    this.#downstreams.close("the relay has lost its session with the server");
  }

  #receive(session: LiveSession, message: IncomingMessage): void {
    const { log } = this.#options;
    switch (message.type) {
      case "assign_job":
        return this.#assignments.receive(session, message);
      case "abort_job":
        return this.#downstreams.abort(message.attempt, message.reason);
      case "nar_wanted":
        return this.#returns.receive(session, message, this.#stop.signal);
      case "error":
        return log.error("the server reports an error", { code: message.code, error: message.message });
      case "reject":
        return log.error("the server ends the session", { code: message.code, reason: message.reason });
      default:
        throw new Error(`${message.type} is out of order`);
    }
  }

  /** How the machines behind it are doing together. */
  async #tellMetrics(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#options.clock, HEARTBEAT_INTERVAL_MS, signal);
      const sum = sumMetrics(this.#downstreams.workers);
      if (sum) this.#supervisor.current?.send(sum);
    }
  }
}
