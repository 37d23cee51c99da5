import type { Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { peerAddress } from "./client-of.ts";
import { hasCode } from "./files.ts";

export interface ListenAddress {
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Other processes of ours listen there, too: the kernel gives each connection to one of them. */
  readonly reusePort?: boolean;
}

const IDLE_SWEEP_MS = 50;
/** Every open socket of a server, also those that were upgraded: the server itself forgets these. */
const openSockets = new WeakMap<Server, Set<Socket>>();

/** Answers the port. Throws with words for the operator. */
export async function listen(server: Server, { address, port, reusePort = false }: ListenAddress): Promise<number> {
  const sockets = new Set<Socket>();
  openSockets.set(server, sockets);
  server.on("connection", (socket) => {
    sockets.add(socket);
    // Node remembers it, for when the connection is reset and the kernel does not.
    peerAddress(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(explain(error, address, port)));
    server.listen({ port, host: address, reusePort }, resolve);
  });
  return (server.address() as AddressInfo).port;
}

/** Takes no new connections and waits for the requests under way; what is left after `graceMs` is cut off. */
export async function stopListening(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // A connection whose request has just ended would be kept for the next one.
  const sweeper = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
  const deadline = setTimeout(() => {
    for (const socket of openSockets.get(server) ?? []) socket.destroy();
  }, graceMs);
  await closed;
  clearInterval(sweeper);
  clearTimeout(deadline);
}

function explain(error: Error, address: string, port: number): Error {
  const where = `${address.includes(":") ? `[${address}]` : address}:${port}`;
  if (hasCode(error, "EADDRINUSE")) {
    return new Error(
      `${where} is in use by another program: stop it, or set GRADIENT_PORT to another port ` +
        "(several servers share a port when all of them have GRADIENT_REUSE_PORT=true)",
    );
  }
  if (hasCode(error, "EACCES")) {
    return new Error(
      `${where} needs more rights: ports below 1024 are the system's; set GRADIENT_PORT to a higher one`,
    );
  }
  if (hasCode(error, "EADDRNOTAVAIL")) {
    return new Error(`${address} is no address of this machine: set GRADIENT_IP to one, or to 127.0.0.1`);
  }
  return new Error(`cannot listen on ${where}: ${error.message}`, { cause: error });
}
