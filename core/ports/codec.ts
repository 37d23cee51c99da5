import type { ByteStream } from "../lib/streams.ts";

/** Compressions of NAR files, by the names that narinfo uses. */
export type Compression = "none" | "zstd" | "xz" | "gzip" | "bzip2" | "br";

/** Streaming compression. Output is pulled: a slow consumer slows the source. Truncated or corrupt input throws. */
export interface Codec {
  /** Null where this runtime cannot decode it. */
  decompress(compression: Compression, body: ByteStream): ByteStream | null;
  compressZstd(body: ByteStream, options: { readonly level: number }): ByteStream;
}
