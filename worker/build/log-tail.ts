/** The last lines of a log whose middle is left out: what a failed build ends with is why one opens it. */
export class LogTail {
  readonly #bytesMax: number;
  #lines: Uint8Array[] = [];
  #length = 0;
  #leftOut = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(line: Uint8Array): void {
    const kept = line.length > this.#bytesMax ? line.subarray(line.length - this.#bytesMax) : line;
    this.#leftOut += line.length - kept.length;
    this.#lines.push(kept);
    this.#length += kept.length;
    let dropped = 0;
    while (this.#length > this.#bytesMax) {
      const { length } = this.#lines[dropped++] as Uint8Array;
      this.#length -= length;
      this.#leftOut += length;
    }
    if (dropped > 0) this.#lines = this.#lines.slice(dropped);
  }

  /** The lines, and how many bytes before them are missing. */
  take(): { readonly lines: readonly Uint8Array[]; readonly leftOut: number } {
    const taken = { lines: this.#lines, leftOut: this.#leftOut };
    this.#lines = [];
    this.#length = 0;
    this.#leftOut = 0;
    return taken;
  }
}
