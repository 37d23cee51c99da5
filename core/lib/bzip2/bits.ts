import type { ByteStream } from "../streams.ts";

/** The input is no bzip2 file, or one that is damaged. */
export class Bzip2Error extends Error {
  override readonly name = "Bzip2Error";
}

const EMPTY = new Uint8Array(0);

/** The bits of a body, the most significant of each byte first. What was `buffered` is read without waiting. */
export class BitInput {
  readonly #source: AsyncIterator<Uint8Array>;
  #bytes: Uint8Array = EMPTY;
  #next = 0;
  #ended = false;
  /** The lowest `#count` bits of `#hold` were taken from the bytes and not yet read. */
  #hold = 0;
  #count = 0;

  constructor(body: ByteStream) {
    this.#source = body[Symbol.asyncIterator]();
  }

  /** Waits until so many bytes can be read, or all that there are. */
  async buffer(byteCount: number): Promise<void> {
    const parts = [this.#bytes.subarray(this.#next)];
    let length = parts[0]?.length as number;
    if (this.#ended || length >= byteCount) return;
    while (length < byteCount) {
      const { done, value } = await this.#source.next();
      if (done) {
        this.#ended = true;
        break;
      }
      parts.push(value);
      length += value.length;
    }
    this.#bytes = new Uint8Array(length);
    this.#next = 0;
    let offset = 0;
    for (const part of parts) {
      this.#bytes.set(part, offset);
      offset += part.length;
    }
  }

  /** At most 24 bits, left where they are. Bits behind the end are 0. */
  peek(bitCount: number): number {
    while (this.#count < bitCount) {
      this.#hold = (this.#hold << 8) | (this.#bytes[this.#next++] ?? 0);
      this.#count += 8;
    }
    return (this.#hold >>> (this.#count - bitCount)) & ((1 << bitCount) - 1);
  }

  /** Takes bits that were looked at. */
  skip(bitCount: number): void {
    this.#count -= bitCount;
  }

  /** At most 24 bits. */
  read(bitCount: number): number {
    const value = this.peek(bitCount);
    this.#count -= bitCount;
    return value;
  }

  read32(): number {
    return ((this.read(16) << 16) | this.read(16)) >>> 0;
  }

  /** Throws when bits behind the end were read. */
  requireNotPassed(): void {
    const unread = this.#count >> 3;
    if (this.#next - unread > this.#bytes.length) throw new Bzip2Error("it ends too early");
  }

  skipToByte(): void {
    this.#count -= this.#count % 8;
  }

  /** To be asked at the beginning of a byte, with one byte buffered. */
  get isAtEnd(): boolean {
    return this.#ended && this.#next - (this.#count >> 3) >= this.#bytes.length;
  }

  async return(): Promise<void> {
    await this.#source.return?.();
  }
}
