import type { ByteStream } from "#core/lib/streams.ts";
import type { OutgoingStream } from "#core/protocol/outgoing-stream.ts";

/**
 * Passes a body on as it comes. The next piece is asked for when the one before has left, and credit goes the same way:
 * of each body at most one window is held here. What ends one side early ends the other. Never rejects.
 */
export async function passOn(body: ByteStream, stream: OutgoingStream): Promise<void> {
  await stream.pipe(body).catch(() => {});
}

/**
 * The same for a log, which has no end that counts: when its sender goes away the server keeps what has come. `sent` is
 * told how much has left, piece by piece.
 */
export async function passLogOn(
  body: ByteStream,
  stream: OutgoingStream,
  sent: (bytes: number) => void,
): Promise<void> {
  const pieces = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      const piece = await pieces.next().catch(() => null);
      if (piece === null || piece.done) break;
      await stream.write(piece.value);
      sent(piece.value.length);
    }
    await stream.end();
  } catch {
    // The server wants no more of it, or the session with it is over.
    await pieces.return?.();
  }
}
