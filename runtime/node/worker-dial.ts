import { WebSocket } from "ws";
import type { OutboundRules } from "#core/domain/outbound-address.ts";
import { CONTROL_MESSAGE_BYTES_MAX } from "#core/protocol/limits.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { WebSocketAdapter } from "./hub/websocket.ts";
import { checkedLookup, refuseForbidden } from "./outbound.ts";

/** Opens the WebSocket of a worker that listens. Rejects with words for those who registered the address. */
export type WorkerDial = (url: string, signal: AbortSignal) => Promise<Socket>;

const CONNECT_TIMEOUT_MS = 10_000;

/** Connects only to addresses that the operator allows: whoever registers a worker names one. */
export function createWorkerDial(rules: OutboundRules): WorkerDial {
  const lookup = checkedLookup(rules);
  return async (given, signal) => {
    const url = new URL(given.replace(/^http/, "ws"));
    if (url.pathname === "/") url.pathname = "/proto";
    refuseForbidden(url, rules);
    return await new Promise<Socket>((resolve, reject) => {
      const socket = new WebSocket(url, {
        handshakeTimeout: CONNECT_TIMEOUT_MS,
        maxPayload: CONTROL_MESSAGE_BYTES_MAX,
        perMessageDeflate: false,
        followRedirects: false,
        lookup,
      });
      const abort = () => socket.terminate();
      signal.addEventListener("abort", abort, { once: true });
      socket.once("close", () => signal.removeEventListener("abort", abort));
      const adapter = new WebSocketAdapter(socket);
      socket.once("open", () => resolve(adapter));
      socket.once("unexpected-response", (_request, response) => {
        reject(new Error(`${url.host} answered ${response.statusCode}: no worker waits to be dialled there`));
        socket.terminate();
      });
      socket.once("error", (error) => reject(new Error(`${url.host}: ${error.message}`, { cause: error })));
      socket.once("close", () => reject(new Error(`${url.host}: the connection was closed`)));
    });
  };
}
