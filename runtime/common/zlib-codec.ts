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
import type { Codec } from "#core/ports/codec.ts";

/** Node's default of 16 KiB costs more than half of the decoding speed. */
const CHUNK_BYTES = 256 * 1024;
/**
 * A frame that asks for more memory than the format's own recommendation (8 MiB) allows for is a trap, up to 128 MiB.
 */
const ZSTD_WINDOW_LOG_MAX = 27;

/** What `node:zlib` can: it has neither xz nor bzip2. */
export const zlibCodec: Codec = {
  decompress(compression, body) {
    switch (compression) {
      case "none":
        return body;
      case "zstd":
        return decodeFrames(body, openZstd);
      case "gzip":
        return through(body, () => createGunzip({ chunkSize: CHUNK_BYTES }));
      case "br":
        return through(body, () => createBrotliDecompress({ chunkSize: CHUNK_BYTES }));
      case "xz":
      case "bzip2":
        return null;
    }
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
  readonly buffer: Uint8Array;
  readonly engine: { readonly bytesWritten: number };
}

function openZstd(): ZstdDecoder {
  const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
  return createZstdDecompress({ chunkSize: CHUNK_BYTES, params });
}

/** What a transform makes of a body; it is opened when the result is read. */
export async function* through(body: ByteStream, open: () => Duplex): AsyncGenerator<Uint8Array> {
  const transform = open();
  // One chunk at a time: the transform's own buffer is the only one.
  const source = Readable.from(body, { highWaterMark: 1 });
  // Carries errors forward and an early end backward; the loop below reports them.
  pipeline(source, transform, () => {});
  for await (const chunk of transform as AsyncIterable<Uint8Array>) {
    yield new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
  }
}
