/**
 * A binary frame: 16 bytes of header (all integers big endian), then the body.
 *
 *     offset  size  field
 *     0       1     kind: 1, data of a stream
 *     1       1     flags: 1 = last frame of the stream, 2 = the sender gave the stream up (the body is the reason)
 *     2       2     zero
 *     4       4     stream id, chosen by the sender of the data
 *     8       8     offset of the body's first byte in the stream
 *
 * Everything else on the socket is JSON text.
 */
export interface DataFrame {
  readonly stream: number;
  readonly offset: number;
  readonly end: boolean;
  readonly aborted: boolean;
  readonly body: Uint8Array;
}

export const FRAME_HEADER_BYTES = 16;
const KIND_DATA = 1;
const FLAG_END = 1;
const FLAG_ABORT = 2;

export class FrameError extends Error {
  override readonly name = "FrameError";
}

export function encodeFrame({ stream, offset, end, aborted, body }: DataFrame): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, KIND_DATA);
  view.setUint8(1, (end ? FLAG_END : 0) | (aborted ? FLAG_ABORT : 0));
  view.setUint32(4, stream);
  view.setBigUint64(8, BigInt(offset));
  bytes.set(body, FRAME_HEADER_BYTES);
  return bytes;
}

/** The body is a view into `bytes`. Throws `FrameError` for anything that `encodeFrame` cannot have made. */
export function decodeFrame(bytes: Uint8Array, bodyBytesMax: number): DataFrame {
  if (bytes.length < FRAME_HEADER_BYTES) throw new FrameError("binary frame is shorter than its header");
  if (bytes.length - FRAME_HEADER_BYTES > bodyBytesMax) throw new FrameError("binary frame is larger than allowed");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint8(1);
  if (view.getUint8(0) !== KIND_DATA || flags > (FLAG_END | FLAG_ABORT) || view.getUint16(2) !== 0) {
    throw new FrameError("binary frame has an unknown kind or flag");
  }
  const offset = view.getBigUint64(8);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) throw new FrameError("stream offset is out of range");
  return {
    stream: view.getUint32(4),
    offset: Number(offset),
    end: (flags & FLAG_END) !== 0,
    aborted: (flags & FLAG_ABORT) !== 0,
    body: bytes.subarray(FRAME_HEADER_BYTES),
  };
}
