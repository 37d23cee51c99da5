import { type FileHandle, open, rm } from "node:fs/promises";

/** Logs up to this size never touch the disk. */
const MEMORY_BYTES_MAX = 256 * 1024;
const READ_BYTES_MAX = 256 * 1024;

/**
 * A build's log as it grows, kept whole until the attempt is over: a session that is lost takes nothing of it along,
 * the next one goes on from what the server has. In memory while it is small, in a file below that.
 */
export class LogSpool {
  readonly #path: string;
  readonly #memory: Uint8Array[] = [];
  #memoryLength = 0;
  #length = 0;
  #file: Promise<FileHandle> | null = null;
  #written: Promise<void> = Promise.resolve();
  #ended = false;
  #waiting: (() => void)[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  get length(): number {
    return this.#length;
  }

  append(bytes: Uint8Array): void {
    if (this.#ended || bytes.length === 0) return;
    const offset = this.#length;
    this.#length += bytes.length;
    if (this.#file === null && this.#length <= MEMORY_BYTES_MAX) {
      this.#memory.push(bytes.slice());
      this.#memoryLength += bytes.length;
      return this.#wake();
    }
    const copy = bytes.slice();
    this.#file ??= open(this.#path, "wx+", 0o600);
    const file = this.#file;
    this.#written = this.#written.then(async () => {
      const handle = await file;
      await handle.write(copy, 0, copy.length, offset - this.#memoryLength);
      this.#wake();
    });
    // A disk that is full costs the rest of the log, not the build; `read` throws.
    this.#written.catch(() => this.#wake());
  }

  /** Nothing more is appended; readers come to an end. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Some bytes from `offset` on; waits until there are any. Null at the end. */
  async read(offset: number): Promise<Uint8Array | null> {
    while (offset >= this.#length && !this.#ended) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (offset >= this.#length) return null;
    if (offset < this.#memoryLength) return this.#fromMemory(offset);
    await this.#written;
    const handle = await (this.#file as Promise<FileHandle>);
    const buffer = new Uint8Array(Math.min(READ_BYTES_MAX, this.#length - offset));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset - this.#memoryLength);
    return buffer.subarray(0, bytesRead);
  }

  async close(): Promise<void> {
    this.end();
    if (this.#file === null) return;
    await this.#written.catch(() => {});
    const handle = await this.#file.catch(() => null);
    await handle?.close();
    await rm(this.#path, { force: true });
  }

  #fromMemory(offset: number): Uint8Array {
    let start = 0;
    for (const part of this.#memory) {
      if (offset < start + part.length) return part.subarray(offset - start);
      start += part.length;
    }
    throw new RangeError("offset is beyond what is in memory");
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
