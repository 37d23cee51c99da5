import { createServer, type IncomingMessage, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { Logger } from "#core/ports/logger.ts";
import { CONTROL_MESSAGE_BYTES_MAX } from "#core/protocol/limits.ts";
import { WebSocketEnd } from "../connect.ts";
import { ListenError } from "../dial-listener.ts";
import type { Relay } from "./relay.ts";

export interface WorkerListenerOptions {
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** The option maxProtoConnections. */
  readonly connectionsMax: number;
  readonly relay: Pick<Relay, "accept" | "hasRoom">;
  readonly log: Logger;
}

const PATH = "/proto";
const HEADERS_TIMEOUT_MS = 10_000;
/** For a refusal to leave; a peer that does not take it is cut off. */
const REFUSAL_MS_MAX = 2_000;

/** Where the workers behind a relay connect, as they would to a server. */
export class WorkerListener implements AsyncDisposable {
  readonly #options: WorkerListenerOptions;
  readonly #server: Server;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    maxPayload: CONTROL_MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
  });
  readonly #open = new Set<WebSocketEnd>();

  private constructor(options: WorkerListenerOptions) {
    this.#options = options;
    this.#server = createServer((_request, response) => response.writeHead(404).end());
    this.#server.headersTimeout = HEADERS_TIMEOUT_MS;
    this.#server.requestTimeout = HEADERS_TIMEOUT_MS;
    this.#server.maxConnections = 4 * options.connectionsMax;
    this.#server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /** Throws `ListenError`. */
  static async open(options: WorkerListenerOptions): Promise<WorkerListener> {
    const listener = new WorkerListener(options);
    const { address, port } = options;
    await new Promise<void>((resolve, reject) => {
      listener.#server.once("error", (error) => {
        const advice = "set GRADIENT_WORKER_LISTEN_ADDR and GRADIENT_WORKER_PORT to an address that is free";
        reject(new ListenError(`cannot listen on ${address}, port ${port} (${error.message}): ${advice}`));
      });
      listener.#server.listen(port, address, resolve);
    });
    return listener;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === "object" ? address.port : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of [...this.#open]) socket.terminate();
    this.#server.closeAllConnections();
    this.#webSockets.close();
    await closed;
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    const { relay, log } = this.#options;
    if (request.url?.split("?", 1)[0] !== PATH) return refuse(socket, "404 Not Found");
    if (!relay.hasRoom) {
      log.warn("a worker was refused: maxProtoConnections are open", { address: request.socket.remoteAddress });
      return refuse(socket, "503 Service Unavailable", "Retry-After: 10");
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const end = new WebSocketEnd(webSocket);
      this.#open.add(end);
      webSocket.once("close", () => this.#open.delete(end));
      relay.accept(end);
    });
  }
}

function refuse(socket: Duplex, status: string, ...headers: readonly string[]): void {
  const timer = setTimeout(() => socket.destroy(), REFUSAL_MS_MAX);
  socket.once("close", () => clearTimeout(timer));
  socket.once("finish", () => socket.destroy());
  socket.end([`HTTP/1.1 ${status}`, ...headers, "Connection: close", "Content-Length: 0", "", ""].join("\r\n"));
}
