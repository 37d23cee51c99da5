import type { Clock } from "../lib/clock.ts";
import { Connection } from "./connection.ts";
import { HANDSHAKE_TIMEOUT_MS, HEARTBEAT_INTERVAL_MS, PROTOCOL_VERSION, RENEWAL_INTERVAL_MS } from "./limits.ts";
import { NarWants } from "./nar-wants.ts";
import type { SessionGrant } from "./session-authority.ts";
import type { Incoming, SessionHost, SessionWork, WorkerConnection } from "./session-host.ts";
import type { Socket } from "./socket.ts";
import { type Capabilities, parseWorkerMessage, type WorkerMessage } from "./worker-messages.ts";

type Of<T extends Incoming["type"]> = Extract<Incoming, { type: T }>;

/** A shorter silence is no sign: two heartbeats may be lost to a slow line. */
const SILENCE_MS_MIN: number = 2.5 * HEARTBEAT_INTERVAL_MS;

export interface ServerSessionOptions {
  readonly clock: Clock;
  /** How long a worker that hears nothing may go on with what it runs. */
  readonly leaseMs: number;
  /** Builds that a group may ask for at one time, also where it has fewer places. Absent: no more than its places. */
  readonly buildsAskedMax?: number;
  /** A worker that was silent for this long is gone. At least 25 s count. */
  readonly silenceTimeoutMs: number;
  /** The worker that was dialled; any other is refused. Null: whoever proves itself. */
  readonly expectedWorkerId?: string | null;
  /** By default `parseWorkerMessage`. */
  readonly parse?: (value: unknown) => WorkerMessage;
}

/**
 * The server's end of one worker's session. It knows no database: `host` decides and keeps.
 *
 *     greeting --init_connection--> challenged --auth_response--> authorized --worker_capabilities--> registered
 *
 * Everything else is refused before `registered`, and a session that has not got there in time is closed. A registered
 * worker proves itself anew when `renew` is called or it asks for it:
 *
 *     settled --auth_challenge--> challenged --auth_response--> settled (auth_update), or closed (reject)
 */
export class ServerSession<Work extends SessionWork> {
  readonly connection: WorkerConnection;
  readonly wants: NarWants;
  readonly #options: ServerSessionOptions;
  readonly #host: SessionHost<Work>;
  #cancelTimeout: () => void;
  #cancelRenewal: () => void = () => {};
  #state: "greeting" | "checking" | "challenged" | "authorized" | "registered" = "greeting";
  #renewal: "settled" | "waiting" | "checking" | "challenged" = "settled";
  #renewWanted = false;
  #renewedAtMs = Number.NEGATIVE_INFINITY;
  #step: Promise<void> = Promise.resolve();
  #workerId = "";
  #capabilities: Capabilities = { fetch: false, eval: false, build: false, sign: false, federate: false };
  /** Those that the worker was asked to prove itself to. */
  #challenged: readonly string[] = [];
  /** Those whose tokens it answered with, while these are looked at; then those that let it in. */
  #proving: readonly string[] = [];
  #grants: readonly SessionGrant[] = [];
  #work: Work | null = null;

  constructor(socket: Socket, host: SessionHost<Work>, options: ServerSessionOptions) {
    this.#options = options;
    this.#host = host;
    this.connection = new Connection({
      socket,
      clock: options.clock,
      parse: options.parse ?? parseWorkerMessage,
      onMessage: (message) => this.#receive(message),
      onClose: (reason) => this.#closed(reason),
      silenceTimeoutMs: Math.max(options.silenceTimeoutMs, SILENCE_MS_MIN),
    });
    this.wants = new NarWants(this.connection, options.clock);
    this.#cancelTimeout = options.clock.schedule(HANDSHAKE_TIMEOUT_MS, () => {
      if (this.#state !== "registered") this.connection.close(1008, "the handshake took too long");
    });
  }

  get workerId(): string {
    return this.#workerId;
  }

  /** What the worker has proved. Empty before it has. */
  get grants(): readonly SessionGrant[] {
    return this.#grants;
  }

  /** Those whose registration decides what becomes of a handshake under way; then those that let the worker in. */
  get proving(): readonly string[] {
    return this.#proving;
  }

  /** Resolves when the step that is under way has ended, in whatever way. */
  get step(): Promise<void> {
    return this.#step;
  }

  /** Null before the worker is registered. */
  get work(): Work | null {
    return this.#work;
  }

  /**
   * What the worker may do has changed: it proves itself anew, and gets no jobs until it has. One whose handshake has
   * looked at what was is sent away, and comes back at once. Calls that come together count as one.
   */
  renew(): void {
    if (this.connection.closed) return;
    if (!this.#work) return this.connection.close(4408, "the registration of this worker has changed");
    this.#work.setPaused(true);
    this.#renewSoon();
  }

  /** Ends the session with a reason that the worker shows its operator. */
  reject(code: number, reason: string): void {
    this.#host.refused(this, code, reason);
    this.connection.send({ type: "reject", code, reason: reason.slice(0, 1000) });
    this.connection.close(4000 + code, reason);
  }

  /** Ends the session because this side stops: the worker comes back soon, or goes to another server. */
  drain(reason: string): void {
    // During the handshake it takes nothing but the next step: anything else would be a breach.
    if (this.#work) this.connection.send({ type: "draining" });
    this.connection.close(1001, reason);
  }

  #receive(message: Incoming): void | Promise<void> {
    if (message.type === "error") {
      this.#host.accused(this, message.code, message.message);
      return this.connection.close(1008, message.message);
    }
    if (!this.#work) return this.#receiveHandshake(message);
    switch (message.type) {
      case "auth_response":
        if (this.#renewal !== "challenged") throw new Error("auth_response is out of order");
        return this.#run(this.#proveAgain(message));
      case "reauth_request":
        return this.#renewSoon();
      case "worker_capabilities":
        if (message.attempts !== null) throw new Error("attempts are named once, when a session begins");
        return this.#work.describe(message);
      case "nar_return":
      case "nar_absent":
        return this.wants.receive(message);
      case "init_connection":
        throw new Error("init_connection is out of order");
      default:
        return this.#work.receive(message);
    }
  }

  #receiveHandshake(message: Incoming): void {
    if (this.#state === "greeting" && message.type === "init_connection") return this.#run(this.#greet(message));
    if (this.#state === "challenged" && message.type === "auth_response") return this.#run(this.#prove(message));
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
      return this.reject(400, `${ours}, ${theirs}: run the same release on both, then restart the worker`);
    }
    const { expectedWorkerId = null } = this.#options;
    if (expectedWorkerId !== null && message.worker_id !== expectedWorkerId) {
      return this.reject(403, `the worker ${expectedWorkerId} was dialled, and ${message.worker_id} answered`);
    }
    const challenge = await this.#host.authority.challenge(message.worker_id);
    if ("refused" in challenge) return this.reject(challenge.refused.code, challenge.refused.reason);
    this.#workerId = message.worker_id;
    this.#capabilities = message.capabilities;
    this.#challenged = challenge.peers;
    this.#state = "challenged";
    this.connection.send({ type: "auth_challenge", peers: [...challenge.peers] });
  }

  async #prove({ tokens }: Of<"auth_response">): Promise<void> {
    this.#state = "checking";
    this.#proving = tokens.map(({ peer }) => peer);
    const proved = await this.#authorize(tokens);
    if (!proved) return;
    this.#setGrants(proved.grants);
    this.#state = "authorized";
    this.connection.send({
      type: "init_ack",
      version: PROTOCOL_VERSION,
      capabilities: this.#capabilities,
      ...proved.answer,
      lease_ms: this.#options.leaseMs,
      ...(this.#options.buildsAskedMax !== undefined && { builds_asked_max: this.#options.buildsAskedMax }),
    });
  }

  /** Null when no organization lets the worker in: then it was told so. */
  async #authorize(tokens: Of<"auth_response">["tokens"]) {
    const { grants, failed: refused } = await this.#host.authority.authorize(this.#workerId, tokens);
    // Whoever has registered this worker since is none of its business.
    const failed = refused.filter(({ peer_id }) => this.#challenged.includes(peer_id));
    if (grants.length === 0) {
      const reasons = failed.map(({ peer_id, reason }) => `${peer_id}: ${reason}`).join(", ");
      await this.#regrant([]);
      this.reject(401, `no valid token in the worker's peers file (${reasons})`);
      return null;
    }
    return {
      grants,
      answer: { authorized_peers: grants.map(({ organizationId }) => organizationId), failed_peers: failed },
    };
  }

  async #register(message: Of<"worker_capabilities">, attempts: readonly string[]): Promise<void> {
    this.#state = "checking";
    const work = await this.#host.register(this, { capabilities: this.#capabilities, message, attempts });
    if (!work || this.connection.closed) return;
    this.#work = work;
    this.#state = "registered";
    this.#cancelTimeout();
  }

  #renewSoon(): void {
    this.#renewWanted = true;
    if (this.#renewal !== "settled") return;
    const { clock } = this.#options;
    const waitMs = this.#renewedAtMs + RENEWAL_INTERVAL_MS - clock.monotonic();
    if (waitMs <= 0) return this.#run(this.#challengeAgain());
    this.#renewal = "waiting";
    this.#cancelRenewal = clock.schedule(waitMs, () => this.#run(this.#challengeAgain()));
  }

  /** What organizations no longer grant ends here, before the worker has a say. */
  async #challengeAgain(): Promise<void> {
    this.#renewal = "checking";
    this.#renewWanted = false;
    const challenge = await this.#host.authority.challenge(this.#workerId);
    const peers = "peers" in challenge ? challenge.peers : [];
    const kept = this.#grants.filter(({ organizationId }) => peers.includes(organizationId));
    if (kept.length < this.#grants.length) await this.#regrant(kept);
    if (this.connection.closed) return;
    if ("refused" in challenge) return this.reject(challenge.refused.code, challenge.refused.reason);
    this.#challenged = peers;
    this.#renewal = "challenged";
    this.#cancelTimeout = this.#options.clock.schedule(HANDSHAKE_TIMEOUT_MS, () =>
      this.connection.close(1008, "the worker did not prove itself anew in time"),
    );
    this.connection.send({ type: "auth_challenge", peers: [...peers] });
  }

  async #proveAgain({ tokens }: Of<"auth_response">): Promise<void> {
    this.#renewal = "checking";
    this.#cancelTimeout();
    const proved = await this.#authorize(tokens);
    if (!proved) return;
    await this.#regrant(proved.grants);
    this.connection.send({ type: "auth_update", ...proved.answer });
    this.#renewal = "settled";
    this.#renewedAtMs = this.#options.clock.monotonic();
    if (this.#renewWanted) this.#renewSoon();
    else this.#work?.setPaused(false);
  }

  async #regrant(grants: readonly SessionGrant[]): Promise<void> {
    this.#setGrants(grants);
    if (this.#work) await this.#host.regrant(this, this.#work);
  }

  #setGrants(grants: readonly SessionGrant[]): void {
    this.#grants = grants;
    this.#proving = grants.map(({ organizationId }) => organizationId);
  }

  #run(step: Promise<void>): void {
    this.#step = step.catch((error: unknown) => {
      this.#host.failed(this, error);
      this.connection.close(1011, "the server could not complete the handshake");
    });
  }

  #closed(reason: string): void {
    this.#cancelTimeout();
    this.#cancelRenewal();
    this.wants.close();
    this.#host.closed(this, reason);
  }
}
