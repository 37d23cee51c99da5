import { createRequire } from "node:module";
import { type Duplex, pipeline, Readable } from "node:stream";
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createZstdCompress,
  createZstdDecompress,
  zstdDecompressSync,
} from "node:zlib";
import type { ByteStream } from "#core/lib/streams.ts";
import { decodeFrames, writeOneFrame, type ZstdDecoder } from "#core/lib/zstd-streams.ts";
import type { Codec, Compression } from "#core/ports/codec.ts";
import { unpackBzip2Aside } from "./bzip2.ts";

/** Node's default of 16 KiB costs more than half of the decoding speed. */
const CHUNK_BYTES = 256 * 1024;
/**
 * A frame that asks for more memory than the format's own recommendation (8 MiB) allows for is a trap, up to 128 MiB.
 */
const ZSTD_WINDOW_LOG_MAX = 27;

/** Compression in threads of libuv's, of the packages' and of our own. */
export const nodeCodec: Codec = {
  decompress(compression, body) {
    if (compression === "none") return body;
    if (compression === "zstd") return decodeFrames(body, openZstd);
    if (compression === "bzip2") return unpackBzip2Aside(body);
    const decoder = decoderOf(compression);
    return decoder && through(body, decoder);
  },
  unpackZstdAtOnce(file, bytesMax) {
    try {
      const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
      const options = { params, maxOutputLength: Math.max(bytesMax, 1), info: true };
      // With `info` the engine comes along, which counts what it has read; Node's types do not say so.
      const unpacked = zstdDecompressSync(file, options) as unknown as Unpacked;
      return unpacked.engine.bytesWritten === file.length ? unpacked.buffer : null;
    } catch {
      return null;
    }
  },
  compressZstd(body, { level }) {
    const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 };
    return through(body, () => writeOneFrame(createZstdCompress({ chunkSize: CHUNK_BYTES, params })));
  },
};

interface Unpacked {
  readonly buffer: Buffer;
  readonly engine: { readonly bytesWritten: number };
}

function openZstd(): ZstdDecoder {
  const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
  return createZstdDecompress({ chunkSize: CHUNK_BYTES, params });
}

function decoderOf(compression: Exclude<Compression, "none" | "zstd" | "bzip2">): (() => Duplex) | null {
  switch (compression) {
    case "gzip":
      return () => createGunzip({ chunkSize: CHUNK_BYTES });
    case "br":
      return () => createBrotliDecompress({ chunkSize: CHUNK_BYTES });
    case "xz":
      return loadXz();
  }
}

async function* through(body: ByteStream, open: () => Duplex): AsyncGenerator<Uint8Array> {
  const transform = open();
  // One chunk at a time: the transform's own buffer is the only one.
  const source = Readable.from(body, { highWaterMark: 1 });
  // Carries errors forward and an early end backward; the loop below reports them.
  pipeline(source, transform, () => {});
  for await (const chunk of transform as AsyncIterable<Buffer>) {
    yield new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
  }
}

let xz: (() => Duplex) | null | undefined;

/** Null where the package's native part is not installed: npm leaves optional packages out without a word. */
function loadXz(): (() => Duplex) | null {
  if (xz === undefined) {
    try {
      const module = createRequire(import.meta.url)("@napi-rs/lzma/xz") as typeof import("@napi-rs/lzma/xz");
      xz = () => module.createDecompressStream();
    } catch {
      xz = null;
    }
  }
  return xz;
}
