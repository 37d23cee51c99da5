import { type ByteStream, fromReadableStream, toReadableStream } from "./streams.ts";

/** By the platform itself, in every runtime: for texts. What NARs are compressed with is the `Codec`'s. */
export function gzip(body: ByteStream): ByteStream {
  return through(body, new CompressionStream("gzip"));
}

/** Throws where the bytes are no gzip, or are cut off. */
export function gunzip(body: ByteStream): ByteStream {
  return through(body, new DecompressionStream("gzip"));
}

function through(body: ByteStream, pair: CompressionStream | DecompressionStream): ByteStream {
  return fromReadableStream(toReadableStream(body).pipeThrough(pair as TransformStream<Uint8Array, Uint8Array>));
}
