import type { BlockStream } from "../lib/block-stream.ts";

/** As `Hasher` makes them. */
interface RunningHash {
  update(chunk: Uint8Array): void;
}

export interface ProvenBodyOptions {
  readonly size: number;
  readonly hash: RunningHash;
  /** Called when all bytes went through the hash, before the last of them are given out; throws to withhold them. */
  readonly prove: (size: number) => Promise<void>;
}

const BLOCK_BYTES = 256 * 1024;

/** A body of a known size whose last block is given out only when all of it was right. */
export class ProvenBody implements AsyncIterableIterator<Uint8Array>, BlockStream {
  readonly #source: BlockStream;
  readonly #options: ProvenBodyOptions;
  #position = 0;
  #isProven = false;

  constructor(source: BlockStream, options: ProvenBodyOptions) {
    this.#source = source;
    this.#options = options;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async readInto(block: Uint8Array): Promise<number> {
    const { size, hash } = this.#options;
    try {
      const length = await this.#source.readInto(block);
      if (length > 0) hash.update(block.subarray(0, length));
      this.#position += length;
      if (length === 0 || this.#position >= size) await this.#prove();
      return length;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async #prove(): Promise<void> {
    if (this.#isProven) return;
    await this.#options.prove(this.#position);
    this.#isProven = true;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const left = this.#options.size - this.#position;
    const block = new Uint8Array(Math.max(1, Math.min(BLOCK_BYTES, left)));
    const length = await this.readInto(block);
    return length === 0 ? await this.return() : { done: false, value: block.subarray(0, length) };
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  async close(): Promise<void> {
    await this.#source.close();
  }
}
