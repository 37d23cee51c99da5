import { argon2 } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { promisify } from "node:util";
import { WebSocketServer } from "ws";
import { type Bytes, fromBase64 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { Logger } from "#core/ports/logger.ts";
import { challengeServer, DIAL_REFUSED, type ProvedServer } from "#core/protocol/dial.ts";
import type { KeyParameters } from "#core/protocol/dial-proof.ts";
import { SERVER_MESSAGE_BYTES_MAX } from "#core/protocol/limits.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { WebSocketEnd } from "./connect.ts";
import { type Peers, tokenOf } from "./peers.ts";

export interface DialListenerOptions {
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Connections at a time, those of strangers included: the option maxProtoConnections. */
  readonly connectionsMax: number;
  readonly workerId: string;
  readonly readPeers: () => Promise<Peers>;
  readonly log: Logger;
}

/** The worker cannot listen. The message says where and why. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

const PATH = "/proto";
/** All that one who has proved nothing may send. */
const STRANGER_BYTES_MAX = 128 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const KEY_BYTES = 32;
const derive = promisify(argon2);

/**
 * Where servers dial this worker. A connection is handed out once its other end has proved that it is a server that
 * knows one of this worker's tokens; whoever has not is told a random number and nothing else.
 */
export class DialListener implements AsyncDisposable {
  readonly #options: DialListenerOptions;
  readonly #server: Server;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    maxPayload: SERVER_MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
  });
  /** One at a time: a key takes a tenth of a second and 20 MB. */
  readonly #deriving = new Semaphore(1);
  readonly #open = new Set<WebSocketEnd>();
  readonly #proofs = new WeakMap<Socket, ProvedServer>();
  /** The last that has proved itself and was not taken yet. */
  #arrived: Socket | null = null;
  /** The last that was taken. */
  #taken: Socket | null = null;
  #waiting: (() => void)[] = [];

  private constructor(options: DialListenerOptions) {
    this.#options = options;
    this.#server = createServer((_request, response) => response.writeHead(404).end());
    this.#server.headersTimeout = HEADERS_TIMEOUT_MS;
    this.#server.requestTimeout = HEADERS_TIMEOUT_MS;
    this.#server.maxConnections = 4 * options.connectionsMax;
    this.#server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /** Throws `ListenError`. */
  static async open(options: DialListenerOptions): Promise<DialListener> {
    const listener = new DialListener(options);
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

  /** The connection that has arrived; null when there is none. */
  take(): Socket | null {
    const socket = this.#arrived;
    this.#arrived = null;
    if (socket) this.#taken = socket;
    return socket;
  }

  /** Resolves when there is one to take, and when the signal is aborted. */
  async arrival(signal: AbortSignal): Promise<void> {
    while (!this.#arrived && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  /** What a challenge on a connection of this listener is answered with; null for a connection from elsewhere. */
  proofOf(socket: Socket): ProvedServer | null {
    return this.#proofs.get(socket) ?? null;
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
    if (request.url?.split("?", 1)[0] !== PATH) return refuse(socket, "404 Not Found");
    if (this.#open.size >= this.#options.connectionsMax) {
      return refuse(socket, "503 Service Unavailable", "Retry-After: 10");
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const end = new WebSocketEnd(webSocket);
      this.#open.add(end);
      webSocket.once("close", () => this.#open.delete(end));
      let bytes = 0;
      const count = (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > STRANGER_BYTES_MAX) socket.destroy();
      };
      socket.on("data", count);
      void this.#challenge(end, request.socket.remoteAddress ?? "").then((proved) => {
        socket.off("data", count);
        if (proved) this.#arrive(end, proved);
      });
    });
  }

  async #challenge(socket: WebSocketEnd, address: string): Promise<ProvedServer | null> {
    const { workerId, readPeers, log } = this.#options;
    try {
      const peers = await readPeers();
      const tokenFor = (peer: string) => tokenOf(peers, peer);
      const deriveKey = (token: string, key: KeyParameters) => this.#deriving.run(() => deriveKeyOf(token, key));
      const ports = { clock: systemClock, random: systemRandom };
      return await challengeServer(socket, { id: workerId, tokenFor, deriveKey }, ports);
    } catch (error) {
      log.warn("a connection to this worker was refused", { address, reason: (error as Error).message });
      // Why is for the operator of this worker alone.
      socket.close(1008, DIAL_REFUSED);
      return null;
    }
  }

  /** The newer connection replaces the older, which may be one whose other end is long gone. */
  #arrive(socket: Socket, proved: ProvedServer): void {
    this.#proofs.set(socket, proved);
    this.#arrived?.close(4409, "a newer connection of the server has begun");
    this.#arrived = socket;
    socket.onClose = () => {
      if (this.#arrived === socket) this.#arrived = null;
    };
    this.#taken?.close(4409, "a newer connection of the server has begun");
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

async function deriveKeyOf(token: string, { salt, memory_kib, passes, lanes }: KeyParameters): Promise<Bytes> {
  const key = await derive("argon2id", {
    message: token,
    nonce: fromBase64(salt) ?? new Uint8Array(),
    memory: memory_kib,
    passes,
    parallelism: lanes,
    tagLength: KEY_BYTES,
  });
  return Uint8Array.from(key);
}

function refuse(socket: Duplex, status: string, ...headers: readonly string[]): void {
  socket.once("finish", () => socket.destroy());
  socket.end([`HTTP/1.1 ${status}`, ...headers, "Connection: close", "Content-Length: 0", "", ""].join("\r\n"));
}
