import type { IncomingMessage } from "node:http";
import { OutboundError, type OutboundOptions } from "#core/ports/outbound.ts";

type BodyOptions = Pick<OutboundOptions, "idleTimeoutMs" | "bytesMax" | "signal">;

/**
 * The body at the reader's pace. Time counts only while the reader waits: a slow reader is not the sender's fault. The
 * connection goes back to the others when the body was read to its end, and is closed otherwise.
 */
export async function* outboundBody(
  response: IncomingMessage,
  host: string,
  { idleTimeoutMs, bytesMax, signal }: BodyOptions,
): AsyncGenerator<Uint8Array> {
  const giveUp = () => response.destroy();
  signal?.addEventListener("abort", giveUp, { once: true });
  if (signal?.aborted) giveUp();
  const chunks = response.iterator({ destroyOnReturn: true }) as AsyncIterableIterator<Buffer>;
  let size = 0;
  let timedOut = false;
  const next = async () => {
    const timer = setTimeout(() => {
      timedOut = true;
      response.destroy();
    }, idleTimeoutMs);
    try {
      return await chunks.next();
    } finally {
      clearTimeout(timer);
    }
  };
  try {
    for (let { done, value } = await next(); !done; { done, value } = await next()) {
      size += value.length;
      if (size > bytesMax) {
        throw new OutboundError("too_large", `${host} sends more than the ${bytesMax} bytes expected`);
      }
      yield new Uint8Array(value.buffer as ArrayBuffer, value.byteOffset, value.length);
    }
    // A body that was given up may end without an error.
    if (!response.complete) throw new Error("it ended early");
  } catch (error) {
    if (signal?.aborted) throw new OutboundError("aborted", `the answer of ${host} was given up`);
    if (error instanceof OutboundError) throw error;
    if (timedOut) throw new OutboundError("timeout", `${host} stopped in the middle of its answer`);
    throw new OutboundError("broken", `the answer of ${host} was cut off: ${(error as Error).message}`, {
      cause: error,
    });
  } finally {
    signal?.removeEventListener("abort", giveUp);
    if (!response.complete) response.destroy();
  }
}
