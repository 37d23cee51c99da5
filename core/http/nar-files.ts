import { isBlockStream } from "../lib/block-stream.ts";
import { type Clock, SECOND } from "../lib/clock.ts";
import { type ByteStream, collect } from "../lib/streams.ts";
import type { Nar } from "../services/nar.ts";
import { NarDamagedError, type NarOpenDeps, openNarAnew } from "../services/nar-open.ts";

/** Of a crowd that asks for more at a time the others are sent their files as they are read, two blocks each. */
const READING_BYTES_MAX = 32 * 1024 * 1024;
/** Hashed in one go: no other request waits for longer. */
const BLOCK_BYTES = 256 * 1024;
/** Whoever waits for longer opens the file by himself: only this reading may be the one that hangs. */
const WAIT_MS_MAX: number = 5 * SECOND;

/** `gone`: it is missing or damaged, which was told. */
export type WholeFile = Uint8Array | "gone";

export interface NarFilesDeps extends NarOpenDeps {
  readonly clock: Clock;
}

/** Whole files of NARs, in memory. Each is read once for all who ask for it meanwhile. */
export class NarFiles {
  readonly #deps: NarFilesDeps;
  /** By object key. */
  readonly #reading = new Map<string, Promise<WholeFile>>();
  #bytes = 0;

  constructor(deps: NarFilesDeps) {
    this.#deps = deps;
  }

  /**
   * Its bytes, hashed now whatever was proven before, and not to be written to. Null when as much is being read as may
   * be, or the storage takes its time: who asks is better sent the file while it is read.
   */
  async read(nar: Nar): Promise<WholeFile | null> {
    const { objectKey, fileSize } = nar;
    const reading = this.#reading.get(objectKey);
    if (reading) return await this.#inTime(objectKey, reading);
    if (this.#bytes + fileSize > READING_BYTES_MAX) return null;
    this.#bytes += fileSize;
    const file = this.#open(nar).finally(() => {
      this.#forget(objectKey, file);
      this.#bytes -= fileSize;
    });
    this.#reading.set(objectKey, file);
    return await this.#inTime(objectKey, file);
  }

  async #inTime(objectKey: string, file: Promise<WholeFile>): Promise<WholeFile | null> {
    const { promise: tooLate, resolve } = Promise.withResolvers<null>();
    const cancel = this.#deps.clock.schedule(WAIT_MS_MAX, () => {
      this.#forget(objectKey, file);
      resolve(null);
    });
    try {
      return await Promise.race([file, tooLate]);
    } finally {
      cancel();
    }
  }

  #forget(objectKey: string, file: Promise<WholeFile>): void {
    if (this.#reading.get(objectKey) === file) this.#reading.delete(objectKey);
  }

  async #open(nar: Nar): Promise<WholeFile> {
    try {
      const body = await openNarAnew(this.#deps, nar);
      return body ? await readWhole(body, nar.fileSize) : "gone";
    } catch (error) {
      if (error instanceof NarDamagedError) return "gone";
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
