import type { FileHandle } from "node:fs/promises";
import type { BlockStream } from "#core/lib/block-stream.ts";

/** Large reads cost a third of the processor time of Node's default of 64 KiB. */
export const READ_BYTES: number = 256 * 1024;

/** Owns the file. A generator would keep it open when its reader gives up before the first block. */
export class FileBody implements AsyncIterableIterator<Uint8Array>, BlockStream {
  readonly #file: FileHandle;
  #position: number;
  #left: number;

  constructor(file: FileHandle, start: number, length: number) {
    this.#file = file;
    this.#position = start;
    this.#left = length;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#left === 0) return await this.return();
    const block = new Uint8Array(Math.min(READ_BYTES, this.#left));
    const length = await this.readInto(block);
    return { done: false, value: block.subarray(0, length) };
  }

  async readInto(block: Uint8Array): Promise<number> {
    if (this.#left === 0) return 0;
    try {
      const wanted = Math.min(block.length, this.#left);
      const { bytesRead } = await this.#file.read(block, 0, wanted, this.#position);
      if (bytesRead === 0) throw new Error(`the object ended ${this.#left} bytes early`);
      this.#position += bytesRead;
      this.#left -= bytesRead;
      return bytesRead;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  async close(): Promise<void> {
    this.#left = 0;
    await this.#file.close();
  }
}
