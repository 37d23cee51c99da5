import { DaemonProtocolError } from "./errors.ts";

const NAME_BYTES_MAX = 4096;

/**
 * Finds where a NAR ends while it streams by. The daemon sends a NAR without its length, and sends what is on its
 * disk: where that differs from the recorded size, a reader that trusts the size waits for ever or takes the rest for
 * the next answer. Only the framing is followed; whether the NAR is well formed is for who hashes it.
 */
export class NarEnd {
  readonly #word = new Uint8Array(8);
  #wordLength = 0;
  /** Bytes of the current string, padding included, that are still to come. */
  #left = 0;
  #token: string | null = null;
  #tokenBytes: number[] = [];
  #tokenLength = 0;
  /** The string to come is data (a name, a target, contents) and never a token. */
  #data = false;
  #depth = 0;
  #ended = false;

  get ended(): boolean {
    return this.#ended;
  }

  /** How many of these bytes belong to the NAR: all of them unless it ends among them. */
  push(bytes: Uint8Array): number {
    let offset = 0;
    while (offset < bytes.length && !this.#ended) {
      if (this.#left > 0) offset += this.#string(bytes.subarray(offset, offset + this.#left));
      else {
        this.#word[this.#wordLength++] = bytes[offset++] as number;
        if (this.#wordLength === 8) this.#begin();
      }
    }
    return offset;
  }

  #begin(): void {
    this.#wordLength = 0;
    const value = new DataView(this.#word.buffer).getBigUint64(0, true);
    const length = Number(value);
    if (!Number.isSafeInteger(length) || (!this.#data && length > NAME_BYTES_MAX)) {
      throw new DaemonProtocolError(`the NAR holds a string of ${value} bytes where a short word belongs`);
    }
    this.#tokenLength = length;
    this.#tokenBytes = [];
    this.#left = Math.ceil(length / 8) * 8;
    if (this.#left === 0) this.#finish();
  }

  #string(part: Uint8Array): number {
    if (!this.#data) this.#tokenBytes.push(...part);
    this.#left -= part.length;
    if (this.#left === 0) this.#finish();
    return part.length;
  }

  #finish(): void {
    if (this.#data) {
      this.#data = false;
      return;
    }
    this.#token = String.fromCharCode(...this.#tokenBytes.slice(0, this.#tokenLength));
    if (this.#token === "name" || this.#token === "target" || this.#token === "contents") this.#data = true;
    else if (this.#token === "(") this.#depth++;
    else if (this.#token === ")") {
      this.#depth--;
      this.#ended = this.#depth <= 0;
    }
  }
}
