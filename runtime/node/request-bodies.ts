import type { IncomingMessage } from "node:http";
import { DAY, MINUTE } from "#core/lib/clock.ts";

/** Of one request, body included. Node itself gives five minutes, in which a slow line brings no large file. */
export const REQUEST_MS_MAX: number = DAY;
/** A sender that is alive sends something in this time, and a storage that has much to do takes something. */
const BODY_IDLE_MS: number = 2 * MINUTE;

/** Cuts the connection when nothing of the request's body has come for `idleMs`, or at most twice that. */
export function cutIdleBody(request: IncomingMessage, idleMs: number = BODY_IDLE_MS): void {
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  if (encoding === undefined && (length === undefined || length === "0")) return;
  const { socket } = request;
  let seen = socket.bytesRead;
  // Not the socket's own timer: that one is the server's, for connections without a request.
  const timer = setInterval(() => {
    if (request.complete) return clearInterval(timer);
    // What has come and was not taken yet is for us to hurry with.
    if (socket.bytesRead === seen && request.readableLength === 0) socket.destroy();
    seen = socket.bytesRead;
  }, idleMs);
  timer.unref();
  request.once("close", () => clearInterval(timer));
}
