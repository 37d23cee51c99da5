import type { ByteStream } from "../lib/streams.ts";

/** Compressions of NAR files, by the names that narinfo uses. */
export type Compression = "none" | "zstd" | "xz" | "gzip" | "bzip2" | "br";

/** Streaming compression. Output is pulled: a slow consumer slows the source. Truncated or corrupt input throws. */
export interface Codec {
  /** Null where this runtime cannot decode it. */
  decompress(compression: Compression, body: ByteStream): ByteStream | null;
  /**
   * One whole zstd file in one go, where this runtime can: for a few kilobytes a stream costs ten times as much. Null
   * unless the file is one frame, all of it, and unpacks to at most `bytesMax`.
   */
  unpackZstdAtOnce?(file: Uint8Array, bytesMax: number): Uint8Array | null;
  compressZstd(body: ByteStream, options: { readonly level: number }): ByteStream;
}
