import { type Clock, sleep } from "#core/lib/clock.ts";
import { type RandomBytes, randomFraction, systemRandom } from "#core/lib/ids.ts";
import type { Logger } from "#core/ports/logger.ts";
import { HANDSHAKE_TIMEOUT_MS, PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { Capabilities } from "#core/protocol/worker-messages.ts";
import { introductionOf, type WorkerFacts } from "./introduction.ts";
import { type IncomingMessage, LiveSession } from "./live-session.ts";

export interface SupervisorOptions {
  readonly workerId: string;
  readonly capabilities: Capabilities;
  readonly facts: WorkerFacts;
  /** Whether it answers when the server has lost NARs. */
  readonly returnsNars?: boolean;
  /** Opens a connection to the server, or throws with why it cannot. */
  readonly connect: (signal: AbortSignal) => Promise<Socket>;
  /** Resolves when there is a connection to take, so that no pause is worth waiting for. Absent: there never is. */
  readonly arrival?: ((signal: AbortSignal) => Promise<void>) | undefined;
  /**
   * Reads the peers file anew, and answers for those of the challenged peers that it has tokens for: with the tokens,
   * or on a connection that the server has opened with what proves that it has them.
   */
  readonly tokensFor: (
    peers: readonly string[],
    socket: Socket,
  ) => Promise<{ readonly peer: string; readonly token: string }[]>;
  readonly clock: Clock;
  /** By default the system's. */
  readonly random?: RandomBytes;
  readonly log: Logger;
  /** Attempts that this worker knows of, when a session begins. */
  readonly attempts: () => readonly string[];
  readonly onAttached: (
    session: LiveSession,
    held: readonly { readonly attempt: string; readonly log_bytes: number }[],
  ) => void;
  readonly onMessage: (session: LiveSession, message: IncomingMessage) => void;
  /** These organizations let this worker in, from now on. */
  readonly onAuthorized?: (organizationIds: readonly string[], leaseMs: number) => void;
  /** The session that was attached is over. */
  readonly onLost?: () => void;
  /** No server was reached for a whole lease: what runs here belongs to nobody any more. */
  readonly onLeaseLost: () => void;
}

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 60_000;
const SILENCE_TIMEOUT_MS = 45_000;
/** A session that ends sooner is followed by the next pause: what ended it may end the next one too. */
const SETTLED_MS = 10_000;
/** The same for a session whose server said that it stops: another server, or the next, may be there at once. */
const DRAINED_MS = 1_000;
/** Timers of Node end at once when they are longer. */
const LEASE_MS_MAX: number = 2 ** 31 - 1;

/**
 * Keeps a session with the server: connects, proves itself, names the attempts it still has, and does so again when the
 * session is lost, with growing pauses. Only a session that the server accepted and that lasted resets the pause.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  #session: LiveSession | null = null;
  #waiting: (() => void)[] = [];
  #leaseMs = 60_000;
  #buildsAskedMax = 0;
  #cancelLease: () => void = () => {};
  #facts: WorkerFacts;
  /** The tokens have changed since they were read for the session that is beginning. */
  #renewWanted = false;
  /** The server of the last session has said that it stops. */
  #serverDrains = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#facts = options.facts;
  }

  /** The registered session, or the next one. Rejects with the signal's reason. */
  async session(signal: AbortSignal): Promise<LiveSession> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#session) return this.#session;
      await new Promise<void>((resolve) => {
        const wake = () => {
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiting.push(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
  }

  get current(): LiveSession | null {
    return this.#session;
  }

  /** Builds that may be asked for at one time, by the server of the last session, if there are fewer places. */
  get buildsAskedMax(): number {
    return this.#buildsAskedMax;
  }

  get #introduction(): ReturnType<typeof introductionOf> {
    return introductionOf(this.#facts, { returnsNars: this.#options.returnsNars ?? false });
  }

  get facts(): WorkerFacts {
    return this.#facts;
  }

  /** What this worker can do from now on. The places that were asked for in this session are to be asked for again. */
  describe(facts: WorkerFacts): void {
    this.#facts = facts;
    this.#session?.send({ ...this.#introduction, attempts: null });
  }

  /** The tokens have changed: the server is asked to look at them. */
  renew(): void {
    if (this.#session) this.#session.send({ type: "reauth_request" });
    else this.#renewWanted = true;
  }

  /** Runs until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    // A lease that nobody needs any more would keep the process.
    using _ = { [Symbol.dispose]: () => this.#cancelLease() };
    let backoffMs = BACKOFF_FIRST_MS;
    while (!signal.aborted) {
      const acceptedMs = await this.#runSession(signal);
      if (signal.aborted) return;
      if (acceptedMs >= (this.#serverDrains ? DRAINED_MS : SETTLED_MS)) backoffMs = BACKOFF_FIRST_MS;
      this.#serverDrains = false;
      // Up to a half of the pause is random, so that a fleet does not come back in one moment.
      const fraction = randomFraction(this.#options.random ?? systemRandom);
      await this.#pause(backoffMs * (0.75 + fraction / 2), signal);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
    }
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const { clock, arrival } = this.#options;
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    await Promise.race([sleep(clock, ms, either), ...(arrival ? [arrival(either)] : [])]);
    over.abort();
  }

  /** How long the session lasted after the server had accepted this worker; 0 when it had not. */
  async #runSession(signal: AbortSignal): Promise<number> {
    const { log, clock } = this.#options;
    let socket: Socket;
    try {
      socket = await this.#options.connect(signal);
    } catch (error) {
      if (!signal.aborted) log.warn("the server is not reachable; trying again", { error: messageOf(error) });
      return 0;
    }
    return await new Promise<number>((resolve) => {
      let acceptedAt: number | null = null;
      const stop = () => session.connection.close(1001, "the worker is stopping");
      const session = new LiveSession({
        socket,
        clock,
        silenceTimeoutMs: SILENCE_TIMEOUT_MS,
        onMessage: (message) => {
          if (this.#session === session) this.#receive(session, message);
          else if (this.#handshake(session, message)) acceptedAt = clock.monotonic();
        },
        onClose: (reason) => {
          cancelHandshake();
          signal.removeEventListener("abort", stop);
          this.#lost(session, reason, signal.aborted);
          resolve(acceptedAt === null ? 0 : clock.monotonic() - acceptedAt);
        },
      });
      const cancelHandshake = clock.schedule(2 * HANDSHAKE_TIMEOUT_MS, () => {
        if (this.#session !== session) session.connection.close(1008, "the handshake took too long");
      });
      signal.addEventListener("abort", stop, { once: true });
      const { workerId, capabilities } = this.#options;
      session.send({ type: "init_connection", version: PROTOCOL_VERSION, worker_id: workerId, capabilities });
    });
  }

  #receive(session: LiveSession, message: IncomingMessage): void {
    switch (message.type) {
      case "auth_challenge":
        return this.#answerChallenge(session, message.peers);
      case "auth_update":
        this.#options.onAuthorized?.(message.authorized_peers, this.#leaseMs);
        return this.#noteRefusals(message.failed_peers);
      case "draining":
        this.#serverDrains = true;
        return session.connection.close(1001, "the server is stopping");
      default:
        return this.#options.onMessage(session, message);
    }
  }

  /** True for the message that completes the handshake. */
  #handshake(session: LiveSession, message: IncomingMessage): boolean {
    switch (message.type) {
      case "auth_challenge":
        this.#answerChallenge(session, message.peers);
        return false;
      case "init_ack":
        this.#leaseMs = Math.min(message.lease_ms, LEASE_MS_MAX);
        this.#buildsAskedMax = message.builds_asked_max ?? 0;
        this.#noteRefusals(message.failed_peers);
        this.#options.onAuthorized?.(message.authorized_peers, this.#leaseMs);
        session.send({ ...this.#introduction, attempts: [...this.#options.attempts()] });
        return false;
      case "attempts":
        this.#attached(session, message.held);
        return true;
      case "reject":
      case "error": {
        const reason = message.type === "reject" ? message.reason : message.message;
        this.#options.log.error("the server refused this worker", { code: message.code, reason });
        return false;
      }
      default:
        throw new Error(`${message.type} is out of order`);
    }
  }

  #answerChallenge(session: LiveSession, peers: readonly string[]): void {
    this.#renewWanted = false;
    this.#options.tokensFor(peers, session.socket).then(
      (tokens) => session.send({ type: "auth_response", tokens }),
      (error: unknown) => {
        this.#options.log.error("the peers file cannot be read", { error: messageOf(error) });
        session.connection.close(1011, "the worker cannot answer the challenge");
      },
    );
  }

  #noteRefusals(failed: readonly { readonly peer_id: string; readonly reason: string }[]): void {
    for (const { peer_id, reason } of failed) {
      this.#options.log.warn("an organization refused this worker", { peer: peer_id, reason });
    }
  }

  #attached(session: LiveSession, held: readonly { readonly attempt: string; readonly log_bytes: number }[]): void {
    this.#cancelLease();
    this.#session = session;
    this.#options.log.info("connected to the server", { held: held.length });
    if (this.#renewWanted) this.renew();
    this.#options.onAttached(session, held);
    this.#handBack(session, held);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** What has ended since it was named would be waited for as long as this worker is heard. */
  #handBack(session: LiveSession, held: readonly { readonly attempt: string }[]): void {
    const going = new Set(this.#options.attempts());
    const reason = "it ended while the session began";
    for (const { attempt } of held) {
      if (!going.has(attempt)) session.send({ type: "assign_job_response", attempt, accepted: false, reason });
    }
  }

  #lost(session: LiveSession, reason: string, stopping: boolean): void {
    if (this.#session !== session) return;
    this.#session = null;
    this.#options.onLost?.();
    if (stopping) return;
    this.#options.log.warn("the session with the server ended", { reason });
    this.#cancelLease = this.#options.clock.schedule(this.#leaseMs, () => this.#options.onLeaseLost());
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
