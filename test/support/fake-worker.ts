import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#core/lib/clock.ts";
import { uuidV4 } from "#core/lib/ids.ts";
import { Connection } from "#core/protocol/connection.ts";
import { PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import { parseServerMessage, type ServerMessage } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";

type Received = Exclude<ServerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
type Sent = Exclude<WorkerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
type Of<T extends Received["type"]> = Extract<Received, { type: T }>;

const WAIT_MS_MAX = 20_000;

export const CAPABILITIES = { fetch: true, eval: true, build: true, sign: false, federate: false } as const;

export interface FakeWorkerOptions {
  readonly workerId?: string;
  /** Tokens by organization. */
  readonly tokens?: Readonly<Record<string, string>>;
}

/** A worker's end of one session with a hub, which says what a test tells it to. */
export class FakeWorker {
  readonly workerId: string;
  /** Under the connection: for what no connection would send. */
  readonly socket: Socket;
  readonly connection: Connection<ServerMessage, Sent>;
  readonly received: Received[] = [];
  closed: string | null = null;
  /** Called while a message is handled: the place to accept streams. */
  onMessage: (message: Received) => void = () => {};
  /** What it answers challenges with. A test may change it. */
  readonly tokens: Record<string, string>;
  readonly #taken = new Set<Received>();

  constructor(accept: (socket: Socket) => void, { workerId = uuidV4(), tokens = {} }: FakeWorkerOptions = {}) {
    const [mine, theirs] = socketPair(systemClock);
    this.workerId = workerId;
    this.socket = mine;
    this.tokens = { ...tokens };
    this.connection = new Connection({
      socket: mine,
      clock: systemClock,
      parse: parseServerMessage,
      onMessage: (message) => {
        this.received.push(message);
        this.onMessage(message);
      },
      onClose: (reason) => {
        this.closed = reason;
      },
      silenceTimeoutMs: 60_000,
    });
    accept(theirs);
  }

  send(message: Sent): void {
    this.connection.send(message);
  }

  /** The first message of the type that no earlier call has taken. Rejects when the connection ends without it. */
  async next<T extends Received["type"]>(type: T): Promise<Of<T>> {
    const deadline = performance.now() + WAIT_MS_MAX;
    for (;;) {
      const found = this.received.find((message) => message.type === type && !this.#taken.has(message));
      if (found) {
        this.#taken.add(found);
        return found as Of<T>;
      }
      if (this.closed !== null || performance.now() > deadline) {
        throw new Error(`no ${type} came; there were: ${JSON.stringify(this.received)}; closed: ${this.closed}`);
      }
      await sleep(2);
    }
  }

  count(type: Received["type"]): number {
    return this.received.filter((message) => message.type === type).length;
  }

  hello(version = PROTOCOL_VERSION): void {
    this.send({ type: "init_connection", version, worker_id: this.workerId, capabilities: CAPABILITIES });
  }

  async authenticate(): Promise<void> {
    this.hello();
    await this.answerChallenge();
  }

  /** Answers with what it was challenged for. */
  async answerChallenge(): Promise<readonly string[]> {
    const { peers } = await this.next("auth_challenge");
    const tokens = peers.flatMap((peer) => (this.tokens[peer] ? [{ peer, token: this.tokens[peer] }] : []));
    this.send({ type: "auth_response", tokens });
    return peers;
  }

  introduce({ builds = 4, attempts = [] as string[], returnsNars = false } = {}): void {
    this.send({
      type: "worker_capabilities",
      groups: [{ architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: builds }],
      max_concurrent_evaluations: 1,
      cpu_count: 4,
      ram_total_mb: 4096,
      ...(returnsNars && { returns_nars: true }),
      attempts,
    });
  }

  /** The whole handshake. Answers the attempts that it still holds. */
  async register(
    options: { builds?: number; attempts?: string[]; returnsNars?: boolean } = {},
  ): Promise<readonly string[]> {
    await this.authenticate();
    await this.next("init_ack");
    this.introduce(options);
    return (await this.next("attempts")).held.map(({ attempt }) => attempt);
  }

  /** Ids of the attempts of that kind that it was given. */
  assigned(kind: "build" | "evaluation"): string[] {
    return this.received.flatMap((message) =>
      message.type === "assign_job" && message.job.kind === kind ? [message.attempt] : [],
    );
  }
}
