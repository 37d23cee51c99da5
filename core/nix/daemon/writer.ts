import { assert } from "#core/lib/assert.ts";
import { type Bytes, utf8 } from "#core/lib/bytes.ts";
import { type ByteString, byteStringBytes } from "../byte-string.ts";

const BEYOND_BYTE = /[^\0-\xff]/;

/**
 * Builds a message of the daemon protocol: every number is 64 bits, little endian; every string is its length, its
 * bytes and zeros up to a multiple of 8.
 */
export class DaemonWriter {
  #buffer: Bytes = new Uint8Array(512);
  #view: DataView = new DataView(this.#buffer.buffer);
  #length = 0;

  word(value: number | bigint): this {
    assert(typeof value === "bigint" || Number.isSafeInteger(value), `${value} is not an integer`);
    assert(value >= 0, `${value} is negative`);
    this.#reserve(8);
    this.#view.setBigUint64(this.#length, BigInt(value), true);
    this.#length += 8;
    return this;
  }

  boolean(value: boolean): this {
    return this.word(value ? 1 : 0);
  }

  bytes(value: Uint8Array): this {
    this.word(value.length);
    const padded = Math.ceil(value.length / 8) * 8;
    this.#reserve(padded);
    this.#buffer.set(value, this.#length);
    this.#length += padded;
    return this;
  }

  /** As UTF-8. */
  text(value: string): this {
    return this.bytes(utf8(value));
  }

  /** What a derivation holds: each character is a byte. One that is none is a fault of ours, and refused. */
  byteString(value: ByteString): this {
    assert(!BEYOND_BYTE.test(value), "a byte string holds a character above 255: it is text, not bytes");
    return this.bytes(byteStringBytes(value));
  }

  list<T>(values: Iterable<T>, writeItem: (item: T) => void): this {
    const items = [...values];
    this.word(items.length);
    for (const item of items) writeItem(item);
    return this;
  }

  texts(values: Iterable<string>): this {
    return this.list(values, (value) => this.text(value));
  }

  /** The message so far, as bytes of its own. */
  finish(): Bytes {
    return this.#buffer.slice(0, this.#length);
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
    this.#view = new DataView(grown.buffer);
  }
}
