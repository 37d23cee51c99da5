import { isBlockStream } from "../lib/block-stream.ts";
import { type ByteStream, collect } from "../lib/streams.ts";
import type { Nar } from "../services/nar.ts";
import { NarDamagedError, type NarOpenDeps, openNar } from "../services/nar-open.ts";

/** Of a crowd that asks for more at a time the others are sent their files as they are read, two blocks each. */
const READING_BYTES_MAX = 32 * 1024 * 1024;
/** Hashed in one go: no other request waits for longer. */
const BLOCK_BYTES = 256 * 1024;

/** Whole files of NARs, in memory. Each is read once for all who ask for it meanwhile. */
export class NarFiles {
  readonly #deps: NarOpenDeps;
  /** By object key. */
  readonly #reading = new Map<string, Promise<Uint8Array | null>>();
  #bytes = 0;

  constructor(deps: NarOpenDeps) {
    this.#deps = deps;
  }

  /**
   * Proven, and not to be written to. Null when it cannot be had, for whoever opens it is told why, and when as much is
   * being read as may be.
   */
  async read(nar: Nar): Promise<Uint8Array | null> {
    const { objectKey, fileSize } = nar;
    const reading = this.#reading.get(objectKey);
    if (reading) return await reading;
    if (this.#bytes + fileSize > READING_BYTES_MAX) return null;
    this.#bytes += fileSize;
    const file = this.#open(nar).finally(() => {
      this.#reading.delete(objectKey);
      this.#bytes -= fileSize;
    });
    this.#reading.set(objectKey, file);
    return await file;
  }

  async #open(nar: Nar): Promise<Uint8Array | null> {
    try {
      const body = await openNar(this.#deps, nar);
      return body && (await readWhole(body, nar.fileSize));
    } catch (error) {
      if (error instanceof NarDamagedError) return null;
      throw error;
    }
  }
}

/** `size` bytes, which the body is known to have. */
async function readWhole(body: ByteStream, size: number): Promise<Uint8Array> {
  if (!isBlockStream(body)) return await collect(body, size);
  const file = new Uint8Array(size);
  try {
    for (let length = 0; length < size; ) {
      const read = await body.readInto(file.subarray(length, length + BLOCK_BYTES));
      if (read === 0) throw new Error(`a file of ${size} bytes ended after ${length}`);
      length += read;
    }
    return file;
  } finally {
    await body.close();
  }
}
