import { DATA_FRAME_BYTES_MAX } from "./limits.ts";

/**
 * Pieces of a body between one sender, which bounds what it pushes, and one reader. What waits takes hardly more memory
 * than its bytes, however it is cut: small pieces are put together, and none keeps a much larger buffer alive that it
 * was cut from.
 */
export class BodyQueue implements AsyncIterable<Uint8Array> {
  #blocks: Block[] = [];
  #waitingBytes = 0;
  #end: { readonly error: unknown } | null = null;
  #wake: (() => void) | null = null;

  /** Bytes that were pushed and not taken. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  push(bytes: Uint8Array): void {
    if (this.#end) return;
    this.#waitingBytes += bytes.length;
    if (this.#blocks.at(-1)?.append(bytes)) return;
    this.#blocks.push(new Block(bytes));
    this.#signal();
  }

  /** What was pushed before is still delivered. */
  close(): void {
    this.#end ??= { error: undefined };
    this.#signal();
  }

  /** What was pushed before is dropped, and the reader sees the error at once. */
  fail(error: unknown): void {
    if (this.#end) return;
    this.#end = { error };
    this.drop();
  }

  /** Nobody reads what was pushed any more. */
  drop(): void {
    this.#blocks = [];
    this.#waitingBytes = 0;
    this.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const block = this.#blocks.shift();
      if (block) {
        this.#waitingBytes -= block.bytes.length;
        yield block.bytes;
      } else if (this.#end) {
        if (this.#end.error !== undefined) throw this.#end.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #signal(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}

class Block {
  #buffer: Uint8Array;
  #length: number;

  constructor(bytes: Uint8Array) {
    this.#buffer = bytes.buffer.byteLength > 2 * bytes.length ? bytes.slice() : bytes;
    this.#length = bytes.length;
  }

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** False when they are too many to go in here. */
  append(bytes: Uint8Array): boolean {
    const length = this.#length + bytes.length;
    if (length > DATA_FRAME_BYTES_MAX) return false;
    if (length > this.#buffer.length) {
      const larger = new Uint8Array(Math.min(2 * length, DATA_FRAME_BYTES_MAX));
      larger.set(this.bytes);
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
    return true;
  }
}
