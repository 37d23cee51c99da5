import { createSocket } from "node:dgram";
import { once } from "node:events";
import { parseSentNar } from "#core/http/sent-nar.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { NarTraffic } from "#core/services/traffic.ts";
import { hasCode } from "./files.ts";

const ADDRESS = "127.0.0.1";
/** As far as the system lets us, which is some 2,500 lines. What comes while the buffer is full counts as not sent. */
const BUFFER_BYTES: number = 1024 * 1024;

export interface ProxyLogOptions {
  /** Null where the proxy says nothing. */
  readonly port: number | null;
  /** Other processes of ours listen there, too. */
  readonly reusePort: boolean;
}

/**
 * Counts what the proxy before us says that it has sent, as syslog over UDP, until it is disposed of. Where that cannot
 * be heard, that is logged and nothing more: what is sent matters more than how much it was.
 */
export async function openProxyLog(
  { port, reusePort }: ProxyLogOptions,
  { traffic, log }: { readonly traffic: Pick<NarTraffic, "sent">; readonly log: Pick<Logger, "warn"> },
): Promise<AsyncDisposable | null> {
  if (port === null) return null;
  const socket = createSocket({ type: "udp4", reusePort, recvBufferSize: BUFFER_BYTES });
  socket.on("message", (datagram) => {
    const sent = parseSentNar(datagram.toString("latin1"));
    if (sent) traffic.sent(sent.cacheId, sent.bytes);
  });
  socket.bind(port, ADDRESS);
  try {
    await once(socket, "listening");
  } catch (error) {
    log.warn(wordsFor(error, port));
    return null;
  }
  // A datagram that could not be taken is one that is not counted.
  socket.on("error", () => {});
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = once(socket, "close");
      socket.close();
      await closed;
    },
  };
}

function wordsFor(error: unknown, port: number): string {
  const where = `${ADDRESS}:${port} (UDP)`;
  const reason = hasCode(error, "EADDRINUSE") ? "is in use by another program" : `cannot be had (${String(error)})`;
  return (
    `${where} ${reason}: what nginx sends is not counted. Set GRADIENT_NGINX_LOG_PORT, and the port of nginx's ` +
    "access_log for the server, to another one; on NixOS services.gradient.port is both"
  );
}
