import { createRequire } from "node:module";
import { type Duplex, pipeline, Readable } from "node:stream";
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createZstdCompress,
  createZstdDecompress,
  zstdCompressSync,
} from "node:zlib";
import { unpackBzip2 } from "#core/lib/bzip2/unpack.ts";
import { type ByteStream, shownAnEnd } from "#core/lib/streams.ts";
import { withinDictionary } from "#core/lib/xz-guard.ts";
import { decodeFrames, writeOneFrame } from "#core/lib/zstd-streams.ts";

/** Node's default of 16 KiB costs more than half of the speed. */
const CHUNK_BYTES = 256 * 1024;
/** 128 MiB: what `zstd --long` needs. A frame that asks for more is a trap. */
const ZSTD_WINDOW_LOG_MAX = 27;
/** What `xz -9` needs. The package has no limit of its own. */
const XZ_DICTIONARY_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Measured with Node 24 on 60 MB of machine code: level 1 makes 40 % of it at 445 MB/s, level 3 35 % at 269 MB/s, level
 * 6 32 % at 112 MB/s. Beyond 3 the processor, not the network, would set the pace of an upload.
 */
const ZSTD_LEVEL = 3;
/** Of a frame, with its header, the headers of its blocks and its checksum, beyond a 256th of its content. */
const FRAME_BYTES_MAX = 128;
const ZSTD_PARAMETERS = { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL, [constants.ZSTD_c_checksumFlag]: 1 };

/** Compressed at the reader's pace. */
export function compressZstd(body: ByteStream): ByteStream {
  return through(body, writeOneFrame(createZstdCompress({ chunkSize: CHUNK_BYTES, params: ZSTD_PARAMETERS })));
}

/**
 * In one go, for a few kilobytes: a stream takes 0.2 ms to set up, this 0.01 ms. The result takes no more memory than
 * what does not compress needs; by itself Node takes 16 KiB for the smallest.
 */
export function compressZstdAtOnce(bytes: Uint8Array): Uint8Array {
  const chunkSize = bytes.length + Math.ceil(bytes.length / 256) + FRAME_BYTES_MAX;
  return zstdCompressSync(bytes, { chunkSize, params: ZSTD_PARAMETERS });
}

/** Null when this worker cannot read the form. Truncated or corrupt input throws. */
export function decompress(compression: string, body: ByteStream): ByteStream | null {
  switch (compression) {
    case "none":
      return body;
    case "zstd": {
      const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
      return decodeFrames(body, () => createZstdDecompress({ chunkSize: CHUNK_BYTES, params }));
    }
    case "gzip":
      return through(body, createGunzip({ chunkSize: CHUNK_BYTES }));
    case "bzip2":
      // Of files from before 2015 only: that each block holds up the others for some 50 ms is borne.
      return unpackBzip2(body);
    case "br":
      return through(body, createBrotliDecompress({ chunkSize: CHUNK_BYTES }));
    case "xz": {
      const decoder = openXz();
      const guarded = withinDictionary(body, XZ_DICTIONARY_BYTES_MAX);
      return decoder && shownAnEnd(guarded, (file) => through(file, decoder));
    }
    default:
      return null;
  }
}

async function* through(body: ByteStream, transform: Duplex): AsyncGenerator<Uint8Array> {
  // One chunk at a time: the transform's own buffer is the only one.
  const source = Readable.from(body, { highWaterMark: 1 });
  // Carries errors forward and an early end backward; the loop below reports them.
  pipeline(source, transform, () => {});
  for await (const chunk of transform as AsyncIterable<Buffer>) {
    yield new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
  }
}

/** Null where the package's native part is not installed: npm leaves optional packages out without a word. */
function openXz(): Duplex | null {
  try {
    const module = createRequire(import.meta.url)("@napi-rs/lzma/xz") as typeof import("@napi-rs/lzma/xz");
    return module.createDecompressStream();
  } catch {
    return null;
  }
}
