const LINE_FEED = 0x0a;

/** A list of all names below one attribute is the longest line: some megabytes for a whole package set. */
export const LINE_BYTES_MAX: number = 16 * 1024 * 1024;

/** Cuts a stream of bytes into lines of text. Of a line beyond the limit only the beginning is kept. */
export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #bytesMax: number;
  #parts: Uint8Array[] = [];
  #length = 0;

  constructor(onLine: (line: string) => void, bytesMax: number = LINE_BYTES_MAX) {
    this.#onLine = onLine;
    this.#bytesMax = bytesMax;
  }

  push(bytes: Uint8Array): void {
    let start = 0;
    for (let end = bytes.indexOf(LINE_FEED); end !== -1; end = bytes.indexOf(LINE_FEED, start)) {
      this.#keep(bytes.subarray(start, end));
      this.#flush();
      start = end + 1;
    }
    this.#keep(bytes.subarray(start));
  }

  /** A last line without an end still counts. */
  end(): void {
    if (this.#length > 0) this.#flush();
  }

  #keep(bytes: Uint8Array): void {
    const kept = bytes.subarray(0, Math.max(0, this.#bytesMax - this.#length));
    if (kept.length > 0) this.#parts.push(kept);
    this.#length += kept.length;
  }

  #flush(): void {
    const line = Buffer.concat(this.#parts).toString("utf8");
    this.#parts = [];
    this.#length = 0;
    this.#onLine(line);
  }
}
