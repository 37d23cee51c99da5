import type { Duplex } from "node:stream";
import { WebSocket } from "ws";
import { HANDSHAKE_TIMEOUT_MS, SERVER_MESSAGE_BYTES_MAX } from "#core/protocol/limits.ts";
import type { Socket } from "#core/protocol/socket.ts";

/**
 * Opens the WebSocket of a server's `/proto`. Throws with the server's own words when it refuses the upgrade, and with
 * the address when it cannot be reached.
 */
export function connectToServer(serverUrl: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(websocketUrl(serverUrl), {
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxPayload: SERVER_MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      followRedirects: false,
    });
    const abort = () => socket.terminate();
    signal.addEventListener("abort", abort, { once: true });
    const adapter = new WebSocketEnd(socket);
    socket.once("upgrade", (response) => adapter.writesTo(response.socket));
    const settled = () => signal.removeEventListener("abort", abort);
    socket.once("open", settled);
    socket.once("close", settled);
    socket.once("open", () => resolve(adapter));
    socket.once("unexpected-response", (_request, response) => {
      reject(new Error(`${serverUrl} answered ${response.statusCode}: ${hint(response.statusCode)}`));
      socket.terminate();
    });
    socket.on("error", (error) => reject(new Error(`${serverUrl}: ${error.message}`, { cause: error })));
    socket.once("close", () => reject(new Error(`${serverUrl}: the connection was closed`)));
  });
}

function websocketUrl(serverUrl: string): string {
  return serverUrl.replace(/^http/, "ws");
}

function hint(status: number | undefined): string {
  if (status === 404) return "no worker may connect here (is the path /proto right, and is the server discoverable?)";
  if (status === 503) return "it has no place for another worker now";
  return "it does not speak the worker protocol there";
}

/** A WebSocket of the `ws` library as the protocol's socket. */
export class WebSocketEnd implements Socket {
  onMessage: (data: string | Uint8Array) => void = () => {};
  onClose: (reason: string) => void = () => {};
  readonly #socket: WebSocket;
  #line: Duplex | null = null;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data, isBinary) => {
      this.onMessage(isBinary ? (data as Buffer) : (data as Buffer).toString("utf8"));
    });
    // `close` follows.
    socket.on("error", () => {});
    socket.on("close", (code, reason) => this.onClose(reason.toString() || `closed with code ${code}`));
  }

  send(data: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(data, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** What the WebSocket writes to: where it is known, several messages leave with one call. */
  writesTo(line: Duplex): void {
    this.#line = line;
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

  /** Cuts the connection off, without a word to the other end. */
  terminate(): void {
    this.#socket.terminate();
  }
}
