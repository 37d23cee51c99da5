import type { ByteStream } from "#core/lib/streams.ts";
import { DaemonConnectionError } from "#core/nix/daemon/errors.ts";
import { readFrameBody } from "#core/nix/daemon/frames.ts";
import { DATA_FRAME_BYTES_MAX } from "#core/nix/daemon/limits.ts";
import { NarEnd } from "#core/nix/daemon/nar-end.ts";
import { FrameCode, Operation } from "#core/nix/daemon/numbers.ts";
import { type DaemonPathInfo, type NewPathInfo, writePathInfo } from "#core/nix/daemon/path-info.ts";
import { DaemonWriter } from "#core/nix/daemon/writer.ts";
import type { DaemonSession, OperationChannel, OperationOptions } from "./session.ts";
import type { DaemonSocket } from "./socket.ts";

/** A path and its contents on the way into a store. */
export interface NarImport {
  readonly info: NewPathInfo;
  readonly nar: ByteStream;
}

/** The bytes of a NAR are not as many as its path info says. On import nothing was registered for that path. */
export class NarSizeError extends Error {
  override readonly name = "NarSizeError";
}

const NAR_CHUNK_BYTES_MAX = 256 * 1024;

/** See `DaemonConnection.narFromPath`. */
export async function* readNar(
  session: DaemonSession,
  { path, narSize }: Pick<DaemonPathInfo, "path" | "narSize">,
  options: OperationOptions,
): AsyncGenerator<Uint8Array> {
  const operation = session.begin(options);
  let done = false;
  try {
    const { socket, untilAnswer } = operation.channel;
    await socket.write(new DaemonWriter().word(Operation.narFromPath).text(path).finish());
    await untilAnswer();
    const end = new NarEnd();
    let first: Uint8Array | null = (await socket.read(8)).slice();
    await throwIfRefused(operation.channel, first);
    let left = narSize;
    while (left > 0 && !end.ended) {
      const chunk: Uint8Array = first ?? (await socket.readSome(Math.min(left, NAR_CHUNK_BYTES_MAX)));
      first = null;
      if (end.push(chunk) < chunk.length) break;
      left -= chunk.length;
      yield chunk;
    }
    if (left > 0 || !end.ended) {
      throw new NarSizeError(
        `the files of ${path} do not make the NAR of ${narSize} bytes that the store recorded: ` +
          "they are damaged; `nix-store --verify-path` and `--repair-path` tell more",
      );
    }
    done = true;
    operation.finish();
  } catch (error) {
    done = true;
    throw await operation.fail(error);
  } finally {
    if (!done) operation.abandon();
  }
}

/** Nix 2.34 reports an invalid path in place of its NAR. */
async function throwIfRefused({ reader }: OperationChannel, first: Uint8Array): Promise<void> {
  const word = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (word !== FrameCode.error) return;
  const frame = await readFrameBody(reader, word);
  if (frame.kind === "error") throw frame.error;
}

/** The payload of AddMultipleToStore. */
export async function* importPayload(items: AsyncIterable<NarImport>, count: number): AsyncGenerator<Uint8Array> {
  yield new DaemonWriter().word(count).finish();
  let seen = 0;
  for await (const { info, nar } of items) {
    if (++seen > count) throw new RangeError(`more than the ${count} paths that were announced`);
    const writer = new DaemonWriter();
    writePathInfo(writer, info);
    yield writer.finish();
    yield* exactNar(info, nar);
  }
  if (seen < count) throw new RangeError(`${seen} paths instead of the ${count} that were announced`);
}

/** Passes the NAR on. Throws `NarSizeError` in place of a part that is too long, or at an end that comes too early. */
export async function* exactNar({ path, narSize }: NewPathInfo, nar: ByteStream): AsyncGenerator<Uint8Array> {
  let left = narSize;
  for await (const chunk of nar) {
    left -= chunk.length;
    if (left < 0) throw new NarSizeError(`the NAR of ${path} is longer than the ${narSize} bytes it should have`);
    yield chunk;
  }
  if (left > 0) throw new NarSizeError(`the NAR of ${path} ends ${left} bytes before the ${narSize} it should have`);
}

const END_OF_FRAMES = new DaemonWriter().word(0).finish();

/**
 * Sends a payload in frames while the daemon already talks. When the daemon refuses early the rest of the payload is
 * left alone: the end mark makes the daemon drop what it did not want, and the connection stays in step. A payload
 * that fails closes the connection: an end mark would pass the half for the whole.
 */
export async function sendFramed(channel: OperationChannel, payload: AsyncIterable<Uint8Array>): Promise<void> {
  const { socket } = channel;
  let answered = false;
  let wake = () => {};
  const answer = channel.untilAnswer().then(
    () => null,
    (error: unknown) => ({ error }),
  );
  void answer.then(() => {
    answered = true;
    wake();
  });

  const iterator = payload[Symbol.asyncIterator]();
  try {
    while (!answered) {
      const next = iterator.next();
      // No race: the answer would remember every chunk that was ahead of it.
      await new Promise<void>((resolve) => {
        wake = resolve;
        next.then(
          () => resolve(),
          () => resolve(),
        );
      });
      if (answered) break;
      const item = await next;
      if (item.done) break;
      await sendFrames(socket, item.value);
    }
    await socket.write(END_OF_FRAMES);
  } catch (error) {
    // A daemon that hangs up usually said why just before, which is worth more than a broken pipe.
    const reason = error instanceof DaemonConnectionError && socket.ended ? (await answer)?.error : undefined;
    socket.destroy();
    throw reason ?? error;
  } finally {
    // Not awaited: a source that waits for its network would hold back the error.
    void iterator.return?.()?.catch(() => {});
  }
  const refusal = await answer;
  if (refusal) throw refusal.error;
}

async function sendFrames(socket: DaemonSocket, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length; offset += DATA_FRAME_BYTES_MAX) {
    const part = bytes.subarray(offset, offset + DATA_FRAME_BYTES_MAX);
    await socket.write(new DaemonWriter().word(part.length).finish(), part);
  }
}
