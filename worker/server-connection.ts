import type { Logger } from "#core/ports/logger.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { ConnectionSettings } from "./config-connection.ts";
import { connectToServer } from "./connect.ts";
import { DialListener } from "./dial-listener.ts";
import { readPeers, tokensFor } from "./peers.ts";

type Answers = { readonly peer: string; readonly token: string }[];

/** How this worker gets its connections: it dials the server, or is dialled, or both; the newer replaces the older. */
export interface ServerConnection extends AsyncDisposable {
  readonly connect: (signal: AbortSignal) => Promise<Socket>;
  readonly arrival?: (signal: AbortSignal) => Promise<void>;
  readonly tokensFor: (challenged: readonly string[], socket: Socket) => Promise<Answers>;
}

/** Throws `ListenError`. */
export async function openServerConnection(
  { serverUrl, peers: source, listen }: ConnectionSettings,
  { workerId, log }: { readonly workerId: string; readonly log: Logger },
): Promise<ServerConnection> {
  const read = async () => {
    const peers = await readPeers(source);
    for (const problem of peers.problems) log.warn(problem);
    return peers;
  };
  const listener = listen && (await DialListener.open({ ...listen, workerId, readPeers: read, log }));
  if (listen && listener) log.info("waiting to be dialled", { address: listen.address, port: listener.port });
  return {
    connect: async (signal) => {
      const arrived = listener?.take();
      if (arrived) return arrived;
      if (serverUrl !== null) return await connectToServer(serverUrl, signal);
      for (;;) {
        await listener?.arrival(signal);
        signal.throwIfAborted();
        const socket = listener?.take();
        if (socket) return socket;
      }
    },
    ...(listener && { arrival: (signal: AbortSignal) => listener.arrival(signal) }),
    tokensFor: async (challenged, socket) => {
      const peers = await read();
      const proof = listener?.proofOf(socket);
      const tokens = tokensFor(peers, challenged);
      return proof ? await proof.answer(tokens) : tokens;
    },
    [Symbol.asyncDispose]: async () => await listener?.[Symbol.asyncDispose](),
  };
}
