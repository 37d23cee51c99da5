import { EventEmitter } from "node:events";
import { type IncomingMessage, type Server, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { createNodeWebSocket } from "@hono/node-ws";
import { Hono } from "hono";
import type { WebSocket } from "ws";
import { CONTROL_MESSAGE_BYTES_MAX } from "#core/protocol/limits.ts";
import type { Socket } from "#core/protocol/socket.ts";

export interface UpgradeRefusal {
  readonly status: 403 | 404 | 429 | 503;
  readonly headers: Readonly<Record<string, string>>;
}

export interface ProtoEndpoint {
  /** A status that refuses the upgrade, or null to accept it. */
  readonly refuse: (request: IncomingMessage) => UpgradeRefusal | null;
  readonly accept: (socket: Socket, request: IncomingMessage) => void;
  /** Takes upgrades of other paths; false for those that nobody takes. */
  readonly elsewhere?: (request: IncomingMessage, socket: Duplex, head: Buffer) => boolean;
}

const PATH = "/proto";
/** For a refusal to leave; a peer that does not take it is cut off. */
const REFUSAL_MS_MAX = 2_000;

/**
 * Answers WebSocket upgrades of `/proto` on the server. What must be refused is refused as HTTP, ahead of the helper,
 * which knows no headers for refusals; upgrades of paths that nobody takes are refused with 404.
 */
export function attachProtoEndpoint(server: Server, endpoint: ProtoEndpoint): void {
  const app = new Hono();
  const { injectWebSocket, upgradeWebSocket, wss } = createNodeWebSocket({ app });
  wss.options.maxPayload = CONTROL_MESSAGE_BYTES_MAX;
  // The helper listens here instead of on the server, and so sees only what was let through.
  const gate = new EventEmitter();
  injectWebSocket(gate as Server);
  app.get(
    PATH,
    upgradeWebSocket((c) => {
      const incoming = (c.env as { incoming: IncomingMessage }).incoming;
      return {
        // The helper would copy each frame for its own event of a message; the socket's is listened to instead.
        onOpen: (_event, context) =>
          endpoint.accept(new WebSocketAdapter(context.raw as WebSocket, incoming.socket), incoming),
      };
    }),
  );

  // Whoever offers another protocol (curl offers h2c) is answered as if it had not.
  const shouldUpgradeCallback = ({ headers }: IncomingMessage) => /^websocket$/i.test(headers.upgrade ?? "");
  Object.assign(server, { shouldUpgradeCallback });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A reset of the peer must not end the process.
    socket.on("error", () => socket.destroy());
    const path = request.url?.split("?", 1)[0];
    if (path !== PATH && endpoint.elsewhere?.(request, socket, head)) return;
    const refusal = path === PATH ? endpoint.refuse(request) : { status: 404 as const, headers: {} };
    if (refusal) return refuseUpgrade(socket, refusal);
    gate.emit("upgrade", request, socket, head);
  });
}

function refuseUpgrade(socket: Duplex, { status, headers }: UpgradeRefusal): void {
  const lines = Object.entries({ ...headers, Connection: "close", "Content-Length": "0" }).map(
    ([k, v]) => `${k}: ${v}`,
  );
  // Left half open, it would keep the server from closing for as long as its peer likes.
  const timer = setTimeout(() => socket.destroy(), REFUSAL_MS_MAX);
  socket.once("close", () => clearTimeout(timer));
  socket.once("finish", () => socket.destroy());
  socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, "", ""].join("\r\n"));
}

/** A WebSocket of the `ws` library as the protocol's socket. */
export class WebSocketAdapter implements Socket {
  onClose: (reason: string) => void = () => {};
  readonly #socket: WebSocket;
  readonly #line: Duplex | null;
  #handler: ((data: string | Uint8Array) => void) | null = null;
  /** What came before anybody listened: the peer may be the first to speak. */
  #early: string | Uint8Array | null = null;
  #ended = false;

  /** `line`: what the WebSocket writes to, where that is known. */
  constructor(socket: WebSocket, line: Duplex | null = null) {
    this.#socket = socket;
    this.#line = line;
    socket.on("message", (data, isBinary) => {
      this.#received(isBinary ? (data as Buffer) : (data as Buffer).toString("utf8"));
    });
    socket.on("close", (code, reason) => this.#closed(reason.toString() || `closed with code ${code}`));
    socket.on("error", (error) => this.#closed(`socket error: ${error.message}`));
  }

  get onMessage(): (data: string | Uint8Array) => void {
    return this.#handler ?? (() => {});
  }

  set onMessage(handler: (data: string | Uint8Array) => void) {
    this.#handler = handler;
    if (this.#early === null) return;
    const early = this.#early;
    this.#early = null;
    queueMicrotask(() => handler(early));
    this.#socket.resume();
  }

  send(data: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(data, { compress: false }, (error) => (error ? reject(error) : resolve()));
    });
  }

  async sendAll(messages: readonly (string | Uint8Array)[]): Promise<void> {
    this.#line?.cork();
    const sending = messages.map((data) => this.send(data));
    this.#line?.uncork();
    await Promise.all(sending);
  }

  close(code: number, reason: string): void {
    // A reason may hold 123 bytes (RFC 6455 section 5.5).
    this.#socket.close(code, Buffer.from(reason).subarray(0, 120).toString());
    setTimeout(() => this.#socket.terminate(), 2_000).unref();
  }

  #received(data: string | Uint8Array): void {
    if (this.#handler) return this.#handler(data);
    this.#early = data;
    this.#socket.pause();
  }

  #closed(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.onClose(reason);
  }
}
