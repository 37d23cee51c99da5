import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

export interface S3BodyOptions {
  /** How many bytes are still to come. */
  readonly length: number;
  /** Opens the rest again, from so many bytes after the beginning; it must be of the same object. */
  readonly reopen: (skip: number) => Promise<Readable>;
  /** A source that gives nothing for so long, while somebody waits for it, has failed. */
  readonly stallMs: number;
}

const REOPENED_MAX = 3;
const PAUSE_MS = 200;

/**
 * The bytes of an answer. Whatever breaks off, stalls or ends early is opened again where it stopped; what cannot be
 * completed is an error and never a short body.
 */
export class S3Body implements AsyncIterableIterator<Uint8Array> {
  readonly #options: S3BodyOptions;
  #source: Readable;
  #chunks: AsyncIterator<Uint8Array>;
  #position = 0;
  #reopened = 0;
  #ended = false;

  constructor(source: Readable, options: S3BodyOptions) {
    this.#options = options;
    this.#source = source;
    this.#chunks = source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const { length } = this.#options;
    while (!this.#ended && this.#position < length) {
      try {
        const { done, value } = await this.#read();
        if (done) throw new Error(`the object ended ${length - this.#position} bytes early`);
        if (value.length === 0) continue;
        const chunk = value.subarray(0, length - this.#position);
        this.#position += chunk.length;
        return { done: false, value: chunk };
      } catch (error) {
        await this.#reopen(error);
      }
    }
    return await this.return();
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#ended = true;
    // What was not read is not worth the connection it would come over.
    this.#source.destroy();
    return { done: true, value: undefined };
  }

  #read(): Promise<IteratorResult<Uint8Array, undefined>> {
    const source = this.#source;
    const { stallMs } = this.#options;
    const timer = setTimeout(() => {
      source.destroy(new Error(`the storage sent nothing for ${stallMs} ms`));
    }, stallMs);
    return this.#chunks.next().finally(() => clearTimeout(timer));
  }

  async #reopen(cause: unknown): Promise<void> {
    this.#source.destroy();
    if (this.#ended) return;
    if (++this.#reopened > REOPENED_MAX) throw cause;
    await sleep(PAUSE_MS * this.#reopened);
    this.#source = await this.#options.reopen(this.#position);
    this.#chunks = this.#source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  }
}
