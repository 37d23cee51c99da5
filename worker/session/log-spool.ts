import { type FileHandle, mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { utf8 } from "#core/lib/bytes.ts";
import { isUuid } from "#core/lib/ids.ts";
import { GrowingBytes } from "./growing-bytes.ts";

/** Logs up to this size never touch the disk. */
const MEMORY_BYTES_MAX = 256 * 1024;
const READ_BYTES_MAX = 256 * 1024;
/** Less than this waits for more before it is written: whoever reads has it from memory until then. */
const WRITE_BYTES_MIN = 64 * 1024;
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
 * the next one goes on from what the server has. In memory while it is small, then in a file all but its end. Where the
 * file cannot be written the log ends with a line that says so; the build goes on.
 *
 *     memory | file | being written | unwritten | epilogue
 */
export class LogSpool {
  readonly #path: string;
  readonly #memory = new GrowingBytes();
  readonly #unwritten = new GrowingBytes(2 * WRITE_BYTES_MIN);
  #beingWritten: Uint8Array = new Uint8Array();
  /** All that was appended. */
  #length = 0;
  /** All that is in the file, or in memory before it. */
  #writtenLength = 0;
  #file: Promise<FileHandle> | null = null;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  /** What stands in the place of all that came after it could not be written. */
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
    if (!this.#isWriting && this.#unwritten.length >= WRITE_BYTES_MIN) this.#writing = this.#writeAll();
    this.#wake();
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
    while (offset >= this.#length && !this.#epilogue && !this.#ended) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (offset < this.#memory.length) return this.#memory.from(offset);
    if (offset < this.#writtenLength) return await this.#fromFile(offset);
    if (offset < this.#length) return this.#notInFile(offset - this.#writtenLength);
    const rest = this.#epilogue?.subarray(offset - this.#length);
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
      while (this.#unwritten.length >= WRITE_BYTES_MIN) {
        this.#beingWritten = this.#unwritten.take();
        while (this.#beingWritten.length > 0) await this.#write(file);
      }
    } catch (error) {
      this.#giveUp(error);
      this.#wake();
    }
    this.#isWriting = false;
  }

  async #write(handle: FileHandle): Promise<void> {
    const bytes = this.#beingWritten;
    const { bytesWritten } = await handle.write(bytes, 0, bytes.length, this.#writtenLength - this.#memory.length);
    this.#writtenLength += bytesWritten;
    this.#beingWritten = bytes.subarray(bytesWritten);
  }

  #notInFile(start: number): Uint8Array {
    const { length } = this.#beingWritten;
    return start < length ? this.#beingWritten.subarray(start) : this.#unwritten.from(start - length);
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
