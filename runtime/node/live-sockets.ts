import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { HttpBindings } from "@hono/node-server";
import { WebSocket, WebSocketServer } from "ws";
import { DomainError } from "#core/errors.ts";
import { failureResponse, INTERNAL_ERROR } from "#core/http/envelope.ts";
import { takeLive } from "#core/http/live-offer.ts";
import { SECOND } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { Composition } from "./compose.ts";

/** Readers have nothing to say. */
const MESSAGE_BYTES_MAX = 4_096;
/** A reader that takes nothing for so long is cut off: it comes again and reads anew. */
const SEND_MS_MAX: number = 30 * SECOND;
const PING_INTERVAL_MS: number = 15 * SECOND;
/** Without an answer to a ping for so long, nobody is there. */
const SILENT_MS_MAX: number = 60 * SECOND;
const REFUSAL_MS_MAX = 2_000;
const ALLOWED = { allow: "GET" };
/** RFC 6455 section 7.4.1. */
const CLOSE = { normal: 1000, goingAway: 1001, failed: 1011 } as const;
const LIVE_PATH = /^\/api\/v1\/(?:projects\/[^/]+\/[^/]+|evals\/[^/]+|builds\/[^/]+)\/live$/;

/**
 * WebSockets on the paths of live updates. Each is asked for as a request like any other, so that whatever decides
 * about requests decides about them too; a refusal is answered as it is.
 */
export class LiveSockets {
  readonly #fetch: Composition["fetch"];
  readonly #log: Logger;
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false });
  readonly #open = new Set<WebSocket>();
  #closed = false;

  constructor(fetch: Composition["fetch"], log: Logger) {
    this.#fetch = fetch;
    this.#log = log;
  }

  /** False when the upgrade is for somebody else. */
  take(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const path = request.url?.split("?", 1)[0] ?? "";
    if (!LIVE_PATH.test(path)) return false;
    void this.#answer(request, socket, head).catch((error: unknown) => {
      this.#log.error("a live connection failed", { error, path });
      socket.destroy();
    });
    return true;
  }

  /** Tells every reader to come again. */
  close(): void {
    this.#closed = true;
    for (const socket of this.#open) end(socket, CLOSE.goingAway);
  }

  async #answer(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    // RFC 6455 section 4.1. A `Request` of some other methods cannot even be made.
    if (request.method !== "GET") return await refuse(socket, new Response(null, { status: 405, headers: ALLOWED }));
    const gone = new AbortController();
    socket.once("close", () => gone.abort());
    const asked = requestOf(request);
    const response = await this.#fetch(asked, { incoming: request } as HttpBindings);
    const offer = takeLive(asked, response);
    if (!offer) return await refuse(socket, response);
    let texts: AsyncIterable<string | null>;
    try {
      if (this.#closed) throw new DomainError("service_unavailable", "This server is stopping: try again");
      texts = await offer.open(gone.signal);
    } catch (error) {
      if (!(error instanceof DomainError)) this.#log.error("a live connection failed", { error });
      return await refuse(socket, failureResponse(error instanceof DomainError ? error : INTERNAL_ERROR));
    }
    this.#server.handleUpgrade(request, socket, head, (opened) => {
      this.#open.add(opened);
      opened.once("close", () => this.#open.delete(opened));
      void this.#pump(opened, texts, gone);
    });
    // What the library refused it has ended by itself, and nobody reads the texts.
    if (socket.destroyed) gone.abort();
  }

  async #pump(socket: WebSocket, texts: AsyncIterable<string | null>, gone: AbortController): Promise<void> {
    const beat = keepAlive(socket);
    socket.on("error", () => socket.terminate());
    socket.once("close", () => gone.abort());
    try {
      for await (const text of texts) {
        if (socket.readyState !== WebSocket.OPEN) break;
        if (text !== null) await send(socket, text);
      }
      end(socket, CLOSE.normal);
    } catch (error) {
      this.#log.warn("a live connection ended early", { error });
      end(socket, CLOSE.failed);
    } finally {
      clearInterval(beat);
    }
  }
}

/** Resolves once the text is on its way: nothing gathers for a reader that is slow. */
function send(socket: WebSocket, text: string): Promise<void> {
  return new Promise((resolve) => {
    const late = setTimeout(() => socket.terminate(), SEND_MS_MAX);
    socket.send(text, () => {
      clearTimeout(late);
      resolve();
    });
  });
}

function keepAlive(socket: WebSocket): NodeJS.Timeout {
  let heardAt = performance.now();
  socket.on("pong", () => {
    heardAt = performance.now();
  });
  return setInterval(() => {
    if (performance.now() - heardAt > SILENT_MS_MAX) socket.terminate();
    else if (socket.readyState === WebSocket.OPEN) socket.ping();
  }, PING_INTERVAL_MS);
}

function end(socket: WebSocket, code: number): void {
  socket.close(code);
  setTimeout(() => socket.terminate(), REFUSAL_MS_MAX).unref();
}

function requestOf({ url = "/", headers: given }: IncomingMessage): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(given)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  return new Request(new URL(url, "http://localhost"), { headers });
}

async function refuse(socket: Duplex, response: Response): Promise<void> {
  const body = Buffer.from(await response.arrayBuffer());
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  headers.set("content-length", String(body.length));
  const lines = Array.from(headers, ([name, value]) => `${name}: ${value}`);
  // Left half open, it would keep the server from closing for as long as its peer likes.
  const timer = setTimeout(() => socket.destroy(), REFUSAL_MS_MAX);
  socket.once("close", () => clearTimeout(timer));
  socket.once("finish", () => socket.destroy());
  socket.end(Buffer.concat([Buffer.from(`HTTP/1.1 ${response.status} \r\n${lines.join("\r\n")}\r\n\r\n`), body]));
}
