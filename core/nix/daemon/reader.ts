import { concatBytes, fromUtf8, fromUtf8Lossy } from "#core/lib/bytes.ts";
import { DaemonProtocolError } from "./errors.ts";
import { ANSWER_BYTES_MAX, ITEMS_MAX, READ_BYTES_MAX, TEXT_BYTES_MAX } from "./limits.ts";

/** Where the daemon's bytes come from, at the pace of who reads. */
export interface ByteSource {
  /** Exactly `length` (at most `READ_BYTES_MAX`) bytes, valid until the next call. Throws when the source ends. */
  read(length: number): Promise<Uint8Array>;
  /** What has arrived already and lies in one piece, valid until bytes are taken. Absent: it is not said. */
  readonly arrived?: Uint8Array;
  /** Takes so many of the bytes in `arrived`. */
  skipArrived?(length: number): void;
}

const NOTHING: Uint8Array = new Uint8Array();

/** Memory that one item of a list costs beside its bytes. */
const ITEM_BYTES = 32;

/**
 * Reads the encodings of `DaemonWriter`. Whatever the daemon claims, no more memory is taken than bytes arrived, and
 * no more than the allowance of the current frame or answer; beyond it `DaemonProtocolError` is thrown.
 */
export class DaemonReader {
  readonly #source: ByteSource;
  #allowance = ANSWER_BYTES_MAX;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Starts a new frame or answer that may keep `bytes` in memory. */
  allow(bytes: number): void {
    this.#allowance = bytes;
  }

  /** What can be read without waiting, as far as the source says so. */
  get arrived(): Uint8Array {
    return this.#source.arrived ?? NOTHING;
  }

  skipArrived(length: number): void {
    if (length > 0) this.#source.skipArrived?.(length);
  }

  async word(): Promise<bigint> {
    const bytes = await this.#source.read(8);
    return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  }

  async number(what: string): Promise<number> {
    const value = await this.word();
    if (value > Number.MAX_SAFE_INTEGER) throw new DaemonProtocolError(`${what}: ${value} is out of range`);
    return Number(value);
  }

  async boolean(what: string): Promise<boolean> {
    const value = await this.word();
    if (value > 1n) throw new DaemonProtocolError(`${what}: ${value} is neither 0 nor 1`);
    return value === 1n;
  }

  /** UTF-8, by exact rules. */
  async text(what: string, maxBytes: number = TEXT_BYTES_MAX): Promise<string> {
    const length = await this.number(what);
    if (length > maxBytes) throw new DaemonProtocolError(`${what}: ${length} bytes, at most ${maxBytes} are allowed`);
    const bytes = await this.#take(length);
    await this.#padding(length, what);
    try {
      return fromUtf8(bytes);
    } catch {
      throw new DaemonProtocolError(`${what}: not UTF-8`);
    }
  }

  /** Text for people: bytes that are not UTF-8 become U+FFFD, and what exceeds `keptBytes` is replaced by a note. */
  async displayText(what: string, keptBytes: number): Promise<string> {
    const length = await this.number(what);
    const bytes = await this.#take(Math.min(length, keptBytes));
    const dropped = length - bytes.length;
    await this.#skip(dropped);
    await this.#padding(length, what);
    const text = fromUtf8Lossy(bytes);
    return dropped === 0 ? text : `${text} [${dropped} bytes more]`;
  }

  async list<T>(what: string, readItem: () => Promise<T>, maxItems: number = ITEMS_MAX): Promise<T[]> {
    const count = await this.number(what);
    if (count > maxItems) throw new DaemonProtocolError(`${what}: ${count} items, at most ${maxItems} are allowed`);
    const items: T[] = [];
    while (items.length < count) {
      this.#charge(ITEM_BYTES);
      items.push(await readItem());
    }
    return items;
  }

  texts(what: string): Promise<string[]> {
    return this.list(what, () => this.text(what));
  }

  async #take(length: number): Promise<Uint8Array> {
    this.#charge(length);
    if (length <= READ_BYTES_MAX) return length === 0 ? new Uint8Array() : (await this.#source.read(length)).slice();
    const parts: Uint8Array[] = [];
    for (let left = length; left > 0; left -= READ_BYTES_MAX) {
      parts.push((await this.#source.read(Math.min(left, READ_BYTES_MAX))).slice());
    }
    return concatBytes(parts);
  }

  async #skip(length: number): Promise<void> {
    for (let left = length; left > 0; left -= READ_BYTES_MAX) await this.#source.read(Math.min(left, READ_BYTES_MAX));
  }

  async #padding(length: number, what: string): Promise<void> {
    const missing = (8 - (length % 8)) % 8;
    if (missing === 0) return;
    const bytes = await this.#source.read(missing);
    if (bytes.some((byte) => byte !== 0)) throw new DaemonProtocolError(`${what}: padding is not zero`);
  }

  #charge(bytes: number): void {
    this.#allowance -= bytes;
    if (this.#allowance < 0) throw new DaemonProtocolError("the daemon's answer is larger than is allowed");
  }
}

/** Bytes at hand as a source, for messages that were recorded or built. */
export function sourceOf(bytes: Uint8Array): ByteSource {
  let offset = 0;
  return {
    get arrived() {
      return bytes.subarray(offset);
    },
    skipArrived(length) {
      offset += length;
    },
    async read(length) {
      if (offset + length > bytes.length) throw new DaemonProtocolError("the message ends early");
      offset += length;
      return bytes.subarray(offset - length, offset);
    },
  };
}
