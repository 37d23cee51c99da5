import type { Server, ServerOptions, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { MINUTE, SECOND } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import { REQUEST_MS_MAX } from "./request-bodies.ts";

export interface ClientTimeouts {
  /** For the whole head of a request. */
  readonly headersMs: number;
  /** For the next request on a connection: longer than proxies keep theirs (nginx: 60 s), or they meet a closed one. */
  readonly idleMs: number;
  /** For a client that takes nothing of an answer, though there is some. */
  readonly stalledMs: number;
}

export const CLIENT_TIMEOUTS: ClientTimeouts = {
  headersMs: 20 * SECOND,
  idleMs: 75 * SECOND,
  stalledMs: 60 * SECOND,
};

/** Each takes about 17 KiB while nothing is asked on it. */
const CONNECTIONS_MAX = 16_384;
const TOLD_INTERVAL_MS: number = MINUTE;

/** For `createServer`. Bodies of requests have a rule of their own: `cutIdleBody`. */
export function timeoutOptions({ headersMs, idleMs }: ClientTimeouts): ServerOptions {
  return {
    headersTimeout: headersMs,
    keepAliveTimeout: idleMs,
    requestTimeout: REQUEST_MS_MAX,
    // How often heads that are late are looked for.
    connectionsCheckingInterval: headersMs / 4,
  };
}

/** One connection more is closed at once, and the operator is told from time to time. */
export function boundConnections(server: Server, log: Logger, connectionsMax: number = CONNECTIONS_MAX): void {
  let toldAt = Number.NEGATIVE_INFINITY;
  server.maxConnections = connectionsMax;
  server.on("drop", () => {
    if (performance.now() - toldAt < TOLD_INTERVAL_MS) return;
    toldAt = performance.now();
    log.warn("connections are closed at once: as many as are allowed are open", { connectionsMax });
  });
}

/**
 * Cuts a connection on which an answer waits for a client that takes none of it, and one on which nothing is asked.
 * One that has nothing to take yet is left alone: its answer may take long to make, or be a stream without news.
 */
export class StalledConnections {
  /** Answers that are being made. */
  readonly #answers = new WeakMap<Socket, number>();

  watch(server: Server, { stalledMs }: ClientTimeouts): void {
    // Node starts this timer anew whenever anything was received or taken, and calls here also for idle connections.
    server.setTimeout(stalledMs, (socket: Socket) => {
      if (socket.writableLength > 0 || !this.isAnswering(socket)) socket.destroy();
      else socket.setTimeout(stalledMs);
    });
  }

  isAnswering(socket: Socket): boolean {
    return this.#answers.has(socket);
  }

  /** To be called for each answer that is not made at once. */
  began(response: ServerResponse): void {
    const { socket } = response;
    if (!socket) return;
    this.#answers.set(socket, (this.#answers.get(socket) ?? 0) + 1);
    response.once("close", () => {
      const left = (this.#answers.get(socket) ?? 1) - 1;
      if (left > 0) this.#answers.set(socket, left);
      else this.#answers.delete(socket);
    });
  }
}
