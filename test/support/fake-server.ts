import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#core/lib/clock.ts";
import { Connection } from "#core/protocol/connection.ts";
import { PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import type { ServerMessage } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { parseWorkerMessage, type WorkerMessage } from "#core/protocol/worker-messages.ts";

type Received = Exclude<WorkerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
type Sent = Exclude<ServerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
type Of<T extends Received["type"]> = Extract<Received, { type: T }>;

const WAIT_MS_MAX = 5_000;
export const ORGANIZATION = "01890000-0000-7000-8000-000000000001";

/** The server's end of one session, which says what a test tells it to. */
export class FakeServer {
  /** Under the connection: for lines that break. */
  readonly socket: Socket;
  readonly connection: Connection<WorkerMessage, Sent>;
  /** Everything that arrived, in order. */
  readonly received: Received[] = [];
  closed: string | null = null;
  /** Called while a message is handled: the place to accept streams. */
  onMessage: (message: Received) => void = () => {};
  readonly #taken = new Set<Received>();

  constructor(socket: Socket) {
    this.socket = socket;
    this.connection = new Connection({
      socket,
      clock: systemClock,
      parse: parseWorkerMessage,
      onMessage: (message) => {
        this.received.push(message);
        this.onMessage(message);
      },
      onClose: (reason) => {
        this.closed = reason;
      },
      silenceTimeoutMs: 60_000,
    });
  }

  send(message: Sent): void {
    this.connection.send(message);
  }

  /** The first message of the type that no earlier call has taken. */
  async next<T extends Received["type"]>(type: T): Promise<Of<T>> {
    const deadline = performance.now() + WAIT_MS_MAX;
    for (;;) {
      const found = this.received.find((message) => message.type === type && !this.#taken.has(message));
      if (found) {
        this.#taken.add(found);
        return found as Of<T>;
      }
      if (performance.now() > deadline) {
        const types = this.received.map((message) => message.type).join(", ");
        throw new Error(`no ${type} came; there were: ${types || "none"}; closed: ${this.closed}`);
      }
      await sleep(2);
    }
  }

  count(type: Received["type"]): number {
    return this.received.filter((message) => message.type === type).length;
  }

  /** Lets the worker in up to the last step. Answers the attempts that it named. */
  async greet({ leaseMs = 60_000, peers = [ORGANIZATION] } = {}): Promise<readonly string[]> {
    const { capabilities } = await this.next("init_connection");
    this.send({ type: "auth_challenge", peers });
    await this.next("auth_response");
    const authorized = { authorized_peers: peers, failed_peers: [], lease_ms: leaseMs };
    this.send({ type: "init_ack", version: PROTOCOL_VERSION, capabilities, ...authorized });
    return (await this.next("worker_capabilities")).attempts ?? [];
  }

  /** The whole handshake. Every attempt that the worker names is still held, unless `held` says otherwise. */
  async register(
    options: { leaseMs?: number; peers?: string[]; held?: Readonly<Record<string, number>> } = {},
  ): Promise<void> {
    const named = await this.greet(options);
    const held = options.held ?? Object.fromEntries(named.map((id) => [id, 0]));
    this.send({ type: "attempts", held: Object.entries(held).map(([attempt, log_bytes]) => ({ attempt, log_bytes })) });
  }
}

/** What a worker connects to: each connection is a new session with a new fake server. */
export class FakeServers {
  readonly sessions: FakeServer[] = [];
  /** Set it to have connecting fail. */
  down: string | null = null;
  /** Called for each session that begins. */
  onSession: (server: FakeServer) => void = () => {};

  readonly connect = async (): Promise<Socket> => {
    if (this.down !== null) throw new Error(this.down);
    const [mine, theirs] = socketPair(systemClock);
    const server = new FakeServer(theirs);
    this.sessions.push(server);
    this.onSession(server);
    return mine;
  };

  /** Waits for the session of that number, from 0. */
  async session(index: number): Promise<FakeServer> {
    const deadline = performance.now() + WAIT_MS_MAX;
    for (;;) {
      const found = this.sessions[index];
      if (found) return found;
      if (performance.now() > deadline) throw new Error(`the worker did not connect for the ${index + 1}th time`);
      await sleep(2);
    }
  }
}
