import { uuidV7 } from "#core/lib/ids.ts";
import { Connection } from "#core/protocol/connection.ts";
import { HANDSHAKE_TIMEOUT_MS, HEARTBEAT_INTERVAL_MS, PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import type { ServerMessage } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { type Capabilities, parseWorkerMessage, type WorkerMessage } from "#core/protocol/worker-messages.ts";
import { authorizeWorker, challengeWorker, type WorkerGrant } from "#core/services/worker-auth.ts";
import type { HubDeps } from "./deps.ts";
import { withoutNul } from "./plain-text.ts";
import { describeWorker } from "./worker-description.ts";
import { WorkerJobs } from "./worker-jobs.ts";

type ServerTransport = Extract<ServerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
export type WorkerConnection = Connection<WorkerMessage, Exclude<ServerMessage, ServerTransport>>;
type Incoming = Exclude<WorkerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
type Of<T extends Incoming["type"]> = Extract<Incoming, { type: T }>;

/** A shorter silence is no sign: two heartbeats may be lost to a slow line. */
const SILENCE_MS_MIN: number = 2.5 * HEARTBEAT_INTERVAL_MS;

export interface SessionEvents {
  /**
   * The worker has proved itself and said what it can do; from now on it may be given work. Resolves when no older
   * session of it has anything to do with its leases any more.
   */
  readonly onRegistered: (session: WorkerSession) => Promise<void>;
  readonly onDemand: () => void;
  readonly onClosed: (session: WorkerSession) => void;
}

/**
 * The server's end of one worker's session.
 *
 *     greeting --init_connection--> challenged --auth_response--> authorized --worker_capabilities--> registered
 *
 * Everything else is refused before `registered`. A session that has not got there in time is closed.
 */
export class WorkerSession {
  readonly id: string;
  readonly connection: WorkerConnection;
  readonly #deps: HubDeps;
  readonly #events: SessionEvents;
  readonly #cancelHandshake: () => void;
  #state: "greeting" | "checking" | "challenged" | "authorized" | "registered" = "greeting";
  #step: Promise<void> = Promise.resolve();
  #workerId = "";
  #capabilities: Capabilities = { fetch: false, eval: false, build: false, sign: false, federate: false };
  /** Those that the worker was asked to prove itself to. */
  #challenged: readonly string[] = [];
  /** Those whose tokens it answered with, while these are looked at; then those that let it in. */
  #proving: readonly string[] = [];
  #grants: readonly WorkerGrant[] = [];
  #jobs: WorkerJobs | null = null;

  constructor(deps: HubDeps, socket: Socket, events: SessionEvents) {
    this.id = uuidV7(deps.clock.now(), deps.random);
    this.#deps = deps;
    this.#events = events;
    this.connection = new Connection({
      socket,
      clock: deps.clock,
      parse: (value) => parseWorkerMessage(withoutNul(value)),
      onMessage: (message) => this.#receive(message),
      onClose: (reason) => this.#closed(reason),
      silenceTimeoutMs: Math.max(deps.limits.workerHeartbeatTimeoutMs, SILENCE_MS_MIN),
    });
    this.#cancelHandshake = deps.clock.schedule(HANDSHAKE_TIMEOUT_MS, () => {
      if (this.#state !== "registered") this.connection.close(1008, "the handshake took too long");
    });
  }

  get workerId(): string {
    return this.#workerId;
  }

  /** The organizations that this session speaks for. None before the worker has proved itself. */
  get organizationIds(): readonly string[] {
    return (this.#jobs?.grants ?? this.#grants).map(({ organizationId }) => organizationId);
  }

  /** Whether what it may do hangs on this organization's registration of the worker. */
  dependsOn(organizationId: string): boolean {
    return this.#jobs ? this.organizationIds.includes(organizationId) : this.#proving.includes(organizationId);
  }

  /** Resolves when the step of the handshake that is under way has ended, in whatever way. */
  get step(): Promise<void> {
    return this.#step;
  }

  /** What the worker runs and wants. Null before it is registered. */
  get jobs(): WorkerJobs | null {
    return this.#jobs;
  }

  #receive(message: Incoming): void {
    if (message.type === "error") return this.#accused(message);
    if (this.#jobs) return this.#jobs.receive(message);
    if (this.#state === "greeting" && message.type === "init_connection") return this.#run(this.#greet(message));
    if (this.#state === "challenged" && message.type === "auth_response") return this.#run(this.#authorize(message));
    if (this.#state === "authorized" && message.type === "worker_capabilities") {
      if (message.attempts === null) throw new Error("a session begins with the attempts that the worker has");
      return this.#run(this.#register(message, message.attempts));
    }
    throw new Error(`${message.type} is out of order`);
  }

  async #greet(message: Of<"init_connection">): Promise<void> {
    this.#state = "checking";
    if (message.version !== PROTOCOL_VERSION) {
      const ours = `this server speaks version ${PROTOCOL_VERSION} of the protocol`;
      const theirs = `the worker version ${message.version}`;
      const reason = `${ours}, ${theirs}: run the same release on both, then restart the worker`;
      return this.#reject(400, reason);
    }
    const challenge = await challengeWorker(this.#deps, message.worker_id);
    if ("refused" in challenge) return this.#reject(challenge.refused.code, challenge.refused.reason);
    this.#workerId = message.worker_id;
    this.#capabilities = message.capabilities;
    this.#challenged = challenge.peers;
    this.#state = "challenged";
    this.connection.send({ type: "auth_challenge", peers: [...challenge.peers] });
  }

  async #authorize({ tokens }: Of<"auth_response">): Promise<void> {
    this.#state = "checking";
    this.#proving = tokens.map(({ peer }) => peer);
    const { grants, failed: refused } = await authorizeWorker(this.#deps, this.#workerId, tokens);
    // Whoever has registered this worker since is none of its business.
    const failed = refused.filter(({ peer_id }) => this.#challenged.includes(peer_id));
    if (grants.length === 0) {
      const reasons = failed.map(({ peer_id, reason }) => `${peer_id}: ${reason}`).join(", ");
      return this.#reject(401, `no valid token in the worker's peers file (${reasons})`.slice(0, 1000));
    }
    this.#grants = grants;
    this.#proving = this.organizationIds;
    this.#state = "authorized";
    this.connection.send({
      type: "init_ack",
      version: PROTOCOL_VERSION,
      capabilities: this.#capabilities,
      authorized_peers: grants.map(({ organizationId }) => organizationId),
      failed_peers: failed,
      lease_ms: this.#deps.leaseMs,
    });
  }

  async #register(message: Of<"worker_capabilities">, attempts: readonly string[]): Promise<void> {
    this.#state = "checking";
    const jobs = new WorkerJobs(this.#deps, {
      connection: this.connection,
      connectionId: this.id,
      workerId: this.#workerId,
      grants: this.#grants,
      description: describeWorker(this.#capabilities, message),
      onDemand: this.#events.onDemand,
    });
    // The older session of the same worker ends here, before its leases are looked at: what that one still had under
    // way in the database would take leases away from this one, and close its row.
    await this.#events.onRegistered(this);
    if (this.connection.closed) return;
    await jobs.reattach(attempts);
    // Its end came while the database was asked, and found no jobs to close.
    if (this.connection.closed) return await jobs.closed();
    this.#jobs = jobs;
    this.#state = "registered";
    this.#cancelHandshake();
    this.#deps.log.info("worker connected", { worker: this.#workerId, session: this.id });
  }

  #accused({ code, message }: Of<"error">): void {
    this.#deps.log.error("a worker ends its session for what the server sent", {
      worker: this.#workerId,
      code,
      reason: message,
    });
    this.connection.close(1008, message);
  }

  #reject(code: number, reason: string): void {
    this.#deps.log.warn("worker refused", { worker: this.#workerId, code, reason });
    this.connection.send({ type: "reject", code, reason });
    this.connection.close(4000 + code, reason);
  }

  #run(step: Promise<void>): void {
    this.#step = step.catch((error: unknown) => {
      this.#deps.log.error("a worker's handshake failed", { worker: this.#workerId, error });
      this.connection.close(1011, "the server could not complete the handshake");
    });
  }

  #closed(reason: string): void {
    this.#cancelHandshake();
    if (this.#jobs) this.#deps.log.info("worker disconnected", { worker: this.#workerId, session: this.id, reason });
    this.#events.onClosed(this);
  }
}
