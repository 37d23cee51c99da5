import { type FileHandle, mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { utf8 } from "#core/lib/bytes.ts";
import { isUuid } from "#core/lib/ids.ts";
import { GrowingBytes } from "./growing-bytes.ts";

/** Logs up to this size never touch the disk. */
const MEMORY_BYTES_MAX = 256 * 1024;
const READ_BYTES_MAX = 256 * 1024;
const SUFFIX = ".log";

/** Where the log of an attempt is spooled. */
export function spoolPath(folder: string, attemptId: string): string {
  return join(folder, `${attemptId}${SUFFIX}`);
}

/** Makes the folder, and removes what an earlier run of this worker left in it. Call it before the first attempt. */
export async function clearSpools(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const name of await readdir(folder)) {
    const isSpool = name.endsWith(SUFFIX) && isUuid(name.slice(0, -SUFFIX.length));
    if (isSpool) await rm(join(folder, name), { force: true });
  }
}

/**
 * A build's log as it grows, kept whole until the attempt is over: a session that is lost takes nothing of it along,
 * the next one goes on from what the server has. In memory while it is small, in a file below that. Where the file
 * cannot be written the log ends with a line that says so; the build goes on.
 */
export class LogSpool {
  readonly #path: string;
  readonly #memory = new GrowingBytes();
  /** On its way to the file. */
  readonly #unwritten = new GrowingBytes();
  /** All that was appended. */
  #length = 0;
  /** All that is in the file, or in memory. */
  #writtenLength = 0;
  #file: Promise<FileHandle> | null = null;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  /** What stands in the place of all that could not be written. */
  #epilogue: Uint8Array | null = null;
  #ended = false;
  #waiting: (() => void)[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  append(bytes: Uint8Array): void {
    if (this.#ended || this.#epilogue || bytes.length === 0) return;
    this.#length += bytes.length;
    if (this.#file === null && this.#length <= MEMORY_BYTES_MAX) {
      this.#memory.append(bytes);
      this.#writtenLength = this.#length;
      return this.#wake();
    }
    this.#unwritten.append(bytes);
    if (!this.#isWriting) this.#writing = this.#writeAll();
  }

  /** How much was appended. */
  get length(): number {
    return this.#length;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** There is more to come after all; whoever has read to the end begins anew from there. */
  reopen(): void {
    this.#ended = false;
  }

  /** Nothing more is appended; readers come to an end. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Some bytes from `offset` on; waits until there are any. Null at the end. */
  async read(offset: number): Promise<Uint8Array | null> {
    while (offset >= this.#writtenLength && !this.#epilogue && !(this.#ended && offset >= this.#length)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (offset < this.#memory.length) return this.#memory.from(offset);
    if (offset < this.#writtenLength) return await this.#fromFile(offset);
    const rest = this.#epilogue?.subarray(offset - this.#writtenLength);
    return rest && rest.length > 0 ? rest : null;
  }

  async close(): Promise<void> {
    this.end();
    await this.#writing;
    if (this.#file === null) return;
    const handle = await this.#file.catch(() => null);
    await handle?.close();
    await rm(this.#path, { force: true });
  }

  /** What comes while a part is written goes along with the next: a write for each line would take far longer. */
  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    try {
      this.#file ??= open(this.#path, "wx+", 0o600);
      const file = await this.#file;
      while (this.#unwritten.length > 0) {
        await this.#write(file, this.#unwritten.take());
        this.#wake();
      }
    } catch (error) {
      this.#unwritten.take();
      this.#giveUp(error);
      this.#wake();
    }
    this.#isWriting = false;
  }

  async #write(handle: FileHandle, bytes: Uint8Array): Promise<void> {
    for (let start = 0; start < bytes.length; ) {
      const at = this.#writtenLength - this.#memory.length;
      const { bytesWritten } = await handle.write(bytes, start, bytes.length - start, at);
      start += bytesWritten;
      this.#writtenLength += bytesWritten;
    }
  }

  #giveUp(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#epilogue ??= utf8(`\n[gradient: log truncated: the worker cannot keep it (${reason}); the build goes on]\n`);
  }

  async #fromFile(offset: number): Promise<Uint8Array> {
    const handle = await (this.#file as Promise<FileHandle>);
    const buffer = new Uint8Array(Math.min(READ_BYTES_MAX, this.#writtenLength - offset));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset - this.#memory.length);
    if (bytesRead === 0) throw new Error(`${this.#path} is shorter than what was written to it`);
    return buffer.subarray(0, bytesRead);
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
