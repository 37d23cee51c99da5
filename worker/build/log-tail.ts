/** The last lines of a log whose middle is left out: what a failed build ends with is why one opens it. */
export class LogTail {
  readonly #bytesMax: number;
  #lines: Uint8Array[] = [];
  /** Where the kept lines begin. */
  #start = 0;
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
    while (this.#length > this.#bytesMax) {
      const { length } = this.#lines[this.#start++] as Uint8Array;
      this.#length -= length;
      this.#leftOut += length;
    }
    // Seldom: a gigabyte of short lines would otherwise move thousands of them for each one.
    if (this.#start < this.#lines.length / 2) return;
    this.#lines = this.#lines.slice(this.#start);
    this.#start = 0;
  }

  /** The lines, and how many bytes before them are missing. */
  take(): { readonly lines: readonly Uint8Array[]; readonly leftOut: number } {
    const taken = { lines: this.#lines.slice(this.#start), leftOut: this.#leftOut };
    this.#lines = [];
    this.#start = 0;
    this.#length = 0;
    this.#leftOut = 0;
    return taken;
  }
}
