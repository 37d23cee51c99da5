import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import type { ServerMessage } from "#core/protocol/server-messages.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";

type Of<T extends ServerMessage["type"]> = Extract<ServerMessage, { type: T }>;

const WAIT_MS_MAX = 20_000;

/** A worker's end of a real WebSocket, without any of the manners that ours has. */
export class RawWorker implements Disposable {
  readonly socket: WebSocket;
  readonly received: ServerMessage[] = [];
  closed: string | null = null;

  constructor(url: string) {
    this.socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: 2 ** 30 });
    this.socket.on("message", (data, isBinary) => {
      if (!isBinary) this.received.push(JSON.parse((data as Buffer).toString()) as ServerMessage);
    });
    this.socket.on("error", (error) => {
      this.closed ??= error.message;
    });
    this.socket.on("close", (code, reason) => {
      this.closed ??= `${code} ${reason}`;
    });
  }

  /** Resolves when this process is rid of it. */
  async send(data: WorkerMessage | string | Uint8Array): Promise<void> {
    const isRaw = typeof data === "string" || data instanceof Uint8Array;
    const { socket } = this;
    await new Promise<void>((resolve) => socket.send(isRaw ? data : JSON.stringify(data), () => resolve()));
  }

  async next<T extends ServerMessage["type"]>(type: T, fits: (message: Of<T>) => boolean = () => true): Promise<Of<T>> {
    const deadline = performance.now() + WAIT_MS_MAX;
    for (;;) {
      const at = this.received.findIndex((message) => message.type === type && fits(message as Of<T>));
      if (at >= 0) return this.received.splice(at, 1)[0] as Of<T>;
      if (this.closed !== null || performance.now() > deadline)
        throw new Error(`no ${type} came; it is ${this.closed}`);
      await sleep(5);
    }
  }

  async register(workerId: string, peer: string, token: string, attempts: string[] = []): Promise<void> {
    if (this.socket.readyState !== WebSocket.OPEN) {
      await new Promise((resolve, reject) => this.socket.once("open", resolve).once("error", reject));
    }
    const capabilities = { fetch: true, eval: true, build: true, sign: false, federate: false };
    await this.send({ type: "init_connection", version: PROTOCOL_VERSION, worker_id: workerId, capabilities });
    await this.next("auth_challenge");
    await this.send({ type: "auth_response", tokens: [{ peer, token }] });
    await this.next("init_ack");
    await this.send({
      type: "worker_capabilities",
      groups: [{ architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: 4 }],
      max_concurrent_evaluations: 1,
      cpu_count: 4,
      ram_total_mb: 4096,
      attempts,
    });
    await this.next("attempts");
  }

  [Symbol.dispose](): void {
    this.socket.terminate();
  }
}
