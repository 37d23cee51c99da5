import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import { Connection } from "#core/protocol/connection.ts";
import { encodeFrame } from "#core/protocol/frame.ts";
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES, UNREAD_BYTES_MAX } from "#core/protocol/limits.ts";
import type { Socket } from "#core/protocol/socket.ts";

const MIB = 2 ** 20;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** A connection whose peer is the test, and whose streams nobody reads before the test does. */
function receiver() {
  const socket: Socket = { send: async () => {}, close: () => {}, onMessage: () => {}, onClose: () => {} };
  const streams: ByteStream[] = [];
  const ends: string[] = [];
  const connection = new Connection<{ type: "open"; stream: number }, never>({
    socket,
    clock: systemClock,
    parse: (value) => value as { type: "open"; stream: number },
    onMessage: ({ stream }) => void streams.push(connection.acceptStream(stream)),
    onClose: (reason) => ends.push(reason),
    silenceTimeoutMs: 60_000,
  });
  const open = (stream: number) => socket.onMessage(JSON.stringify({ type: "open", stream }));
  const data = (stream: number, offset: number, body: Uint8Array, end = false) =>
    socket.onMessage(encodeFrame({ stream, offset, end, aborted: false, body }));
  return { connection, socket, streams, ends, open, data };
}

function heldBytes(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

test("a window of single bytes takes hardly more memory than one of whole frames", async () => {
  const { connection, streams, ends, open, data } = receiver();
  open(1);
  const before = heldBytes();
  for (let offset = 0; offset < STREAM_WINDOW_BYTES; offset++) data(1, offset, Uint8Array.of(offset % 251));
  expect(heldBytes() - before).toBeLessThan(64 * MIB);

  let read = 0;
  for await (const bytes of streams[0] as ByteStream) {
    for (const byte of bytes) if (byte !== read++ % 251) throw new Error(`byte ${read - 1} is another`);
    if (read === STREAM_WINDOW_BYTES) break;
  }
  expect([read, ends]).toEqual([STREAM_WINDOW_BYTES, []]);
  connection.close(1000, "done");
});

test("a small piece keeps no large buffer alive that it came in", async () => {
  const { connection, socket, streams, open } = receiver();
  open(1);
  const chunk = new Uint8Array(MIB);
  chunk.set(encodeFrame({ stream: 1, offset: 0, end: true, aborted: false, body: Uint8Array.of(7) }), 100);
  socket.onMessage(chunk.subarray(100, 117));

  const read: Uint8Array[] = [];
  for await (const bytes of streams[0] as ByteStream) read.push(bytes);
  expect(read.map((bytes) => [...bytes])).toEqual([[7]]);
  expect(read[0]?.buffer.byteLength).toBeLessThan(1024);
  connection.close(1000, "done");
});

test("what was read of a long body is not kept", async () => {
  const { connection, streams, open, data } = receiver();
  open(1);
  const body = streams[0]?.[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  const kept: WeakRef<ArrayBufferLike>[] = [];
  for (let i = 0; i < 200; i++) {
    data(1, i * DATA_FRAME_BYTES_MAX, new Uint8Array(DATA_FRAME_BYTES_MAX));
    const { value } = await body.next();
    kept.push(new WeakRef((value as Uint8Array).buffer));
  }
  await new Promise((resolve) => setTimeout(resolve, 0));
  collectGarbage();
  expect(kept.filter((reference) => reference.deref()).length).toBeLessThan(5);
  connection.close(1000, "done");
});

test("bodies that have ended and that nobody reads count, and too much of them ends the session", () => {
  const { ends, open, data } = receiver();
  const frame = new Uint8Array(DATA_FRAME_BYTES_MAX);
  let sent = 0;
  for (let stream = 1; ends.length === 0 && sent < 2 * UNREAD_BYTES_MAX; stream++) {
    open(stream);
    for (let offset = 0; offset < STREAM_WINDOW_BYTES; offset += frame.length) {
      data(stream, offset, frame, offset + frame.length === STREAM_WINDOW_BYTES);
    }
    sent += STREAM_WINDOW_BYTES;
  }
  expect(ends).toEqual([`more than ${UNREAD_BYTES_MAX} bytes wait to be read`]);
  expect(sent).toBe(UNREAD_BYTES_MAX + STREAM_WINDOW_BYTES);
});

test("bodies that are read, given up or stopped make room again", async () => {
  const { connection, streams, ends, open, data } = receiver();
  const window = async (stream: number) => {
    open(stream);
    const frame = new Uint8Array(DATA_FRAME_BYTES_MAX);
    for (let offset = 0; offset < STREAM_WINDOW_BYTES; offset += frame.length) {
      data(stream, offset, frame, offset + frame.length === STREAM_WINDOW_BYTES);
    }
    return streams.at(-1) as ByteStream;
  };
  for (let stream = 1; stream <= 900; stream++) {
    const body = await window(stream);
    if (stream % 3 === 0) for await (const _ of body);
    else if (stream % 3 === 1) await body[Symbol.asyncIterator]().return?.();
    else for await (const _ of body) break;
  }
  expect(ends).toEqual([]);
  connection.close(1000, "done");
});
